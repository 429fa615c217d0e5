"""The weights of frozen encoders: the list, those at hand, and the way into the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdmunet.encoders.download import DownloadOptions, cached_file, read_record
from gdmunet.encoders.loading import family_folder, fetch_weights
from gdmunet.encoders.registry import FAMILIES, Family
from gdmunet.errors import GdmError
from gdmunet.paths import Folders, downloads_allowed
from gdmunet.workflows.requests.encoders import DownloadEncoderRequest


@dataclass(frozen=True)
class FetchedEncoder:
    """An encoder whose weights are in the cache, with their origin where they were downloaded."""

    name: str
    file: Path
    licence: str
    sha256: str | None = None
    revision: str | None = None


def download_encoder(request: DownloadEncoderRequest, folders: Folders) -> FetchedEncoder:
    """Fetch the weights of the named encoder into the cache folder.

    Raises
    ------
    GdmError
        Unknown encoder, downloads are off, or the weights are not those that are known.
    """
    if request.name not in FAMILIES:
        raise GdmError(
            f"there is no encoder {request.name}", expected=", ".join(FAMILIES), remedy="choose one of these"
        )
    family, cache = FAMILIES[request.name], request.folder or folders.encoders
    at_hand = family.source and cached_file(family.source, family_folder(family, cache))
    if family.source and not at_hand and not downloads_allowed():
        raise GdmError(
            "downloads are off",
            found="HF_HUB_OFFLINE is set",
            remedy=f"unset it; or elsewhere: curl -L -o {family.source.name} {family.source.url(request.hub)}, then "
            f"put it into {family_folder(family, cache)}",
        )
    file = fetch_weights(family, cache, DownloadOptions(request.hub, request.show_progress))
    record = read_record(file)
    origin = (record.sha256, record.revision) if record else (None, None)
    return FetchedEncoder(family.name, file, family.licence, *origin)


def encoder_table(request: DownloadEncoderRequest, folders: Folders) -> str:
    """Every encoder, its licence, and whether its weights are at hand, as text."""
    cache = request.folder or folders.encoders
    rows = [("encoder", "what", "dimensions", "targets", "licence", "weights")]
    rows += [_row(family, cache) for family in FAMILIES.values()]
    rows.append(("file.py:factory", "your own, or package.module:factory", "", "any", "yours", "yours"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(family: Family, cache: Path) -> tuple[str, str, str, str, str, str]:
    source = family.source
    if source is None:
        weights = "with gdmunet" if family.argument is None else f"your {family.argument.lower().replace('_', ' ')}"
    elif file := cached_file(source, family_folder(family, cache)):
        weights = f"at hand: {file}"
    else:
        weights = f"to be downloaded, {source.megabytes} MB"
    return (
        family.usage,
        family.summary,
        " and ".join(f"{n}D" for n in family.dimensions),
        ", ".join(family.modalities) or "any",
        family.licence,
        weights,
    )
