"""The encoder is chosen once, when planning: what is at hand, what a download brings, else the built-in one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.download import HUB
from gdmunet.encoders.registry import (
    FAMILIES,
    EncoderRequest,
    Family,
    build_encoder,
    family_folder,
    fetch_weights,
    missing_weights,
    parse_spec,
    weight_file,
    weights_hash,
)
from gdmunet.errors import GdmError
from gdmunet.hounsfield import is_hounsfield
from gdmunet.plans import EncoderSpec

AUTO = "auto"
# Best first. Of these, `auto` takes the first whose weights are at hand, and downloads the first only.
BEST: dict[str, tuple[str, ...]] = {
    "CT": ("medvae-4x-3d", "medvae-8x-3d", "ct-fm", "medicalnet-50", "medicalnet-10"),
    "other": ("medvae-4x-3d", "medvae-8x-3d", "medicalnet-50", "medicalnet-10"),
}


@dataclass(frozen=True)
class EncoderChoice:
    """What planning decided.

    Attributes
    ----------
    spec
        For plans.json; None only where no encoder of that dimension exists.
    because
        One line: which and why.
    """

    spec: EncoderSpec | None
    because: str


def candidates(modality: str, dimensions: int) -> tuple[Family, ...]:
    """What `auto` looks for, best first, without the built-in encoder."""
    names = BEST["CT" if is_hounsfield(modality) else "other"]
    return tuple(FAMILIES[name] for name in names if dimensions in FAMILIES[name].dimensions)


def choose_encoder(
    spec: str,
    units: VolumeUnits,
    dimensions: int,
    cache: Path,
    *,
    file: Path | None = None,
    allow_download: bool,
    allow_large: bool = True,
    trust_checkpoint: bool = False,
    show_progress: bool = True,
    hub: str = HUB,
) -> EncoderChoice:
    """Choose, fetch if allowed and needed, load once, and pin an encoder.

    Parameters
    ----------
    spec
        ``auto``, or a name of the table, or ``package.module:factory``.
    cache
        Folder of downloaded weights (`Folders.encoders`).
    file
        Weights that the user gave (``--encoder-path``); needs a named encoder.
    allow_download
        False (``HF_HUB_OFFLINE``): nothing is fetched. `auto` fetches its first candidate only, says so before, and
        goes on without it where that fails.
    allow_large
        False (no GPU): `auto` takes the built-in encoder, since the others are far too slow on a CPU.
    hub
        Base address of the downloads.

    Raises
    ------
    GdmError
        A named encoder's weights cannot be had, are damaged, or do not fit.
    """
    search = _Search(units, dimensions, Path(cache), allow_download, trust_checkpoint, show_progress, hub)
    if spec != AUTO:
        return _choose_named(parse_spec(spec), file, search)
    if file is not None:
        raise GdmError(
            "--encoder-path needs the name of the encoder that the file belongs to",
            file=file,
            remedy="give it with -encoder, such as -encoder medvae-4x-3d",
        )
    if not allow_large:
        return _built_in(search, "the larger ones are too slow without a GPU; -encoder NAME takes one all the same")
    return _choose_best(search)


@dataclass(frozen=True)
class _Search:
    units: VolumeUnits
    dimensions: int
    cache: Path
    allow_download: bool
    trust_checkpoint: bool
    show_progress: bool
    hub: str

    def fetch(self, family: Family) -> Path:
        return fetch_weights(family, self.cache, show_progress=self.show_progress, hub=self.hub)

    def choice(self, request: EncoderRequest, found: Path | None, because: str, given: bool = False) -> EncoderChoice:
        """Load the encoder and pin it; `given`: the user named the file."""
        encoder = build_encoder(request, found, self.units, self.dimensions, self.trust_checkpoint)
        spec = EncoderSpec(
            spec=request.spec,
            sha256=weights_hash(encoder, found),
            dimensions=encoder.dimensions,
            window=encoder.window,
            levels=encoder.levels,
            licence=request.family.licence if request.family else encoder.licence,
            file=str(found) if given else None,
            trusted=self.trust_checkpoint,
        )
        return EncoderChoice(spec, because)


def _choose_named(request: EncoderRequest, file: Path | None, search: _Search) -> EncoderChoice:
    found, family = weight_file(request, search.cache, file), request.family
    if found is None and family and family.source and search.dimensions in family.dimensions:
        if not search.allow_download:
            raise missing_weights(family, search.cache)
        found = search.fetch(family)
    return search.choice(request, found, f"encoder {request.spec}: as asked for", given=file is not None)


def _choose_best(search: _Search) -> EncoderChoice:
    wanted = candidates(search.units.modality, search.dimensions)
    for family in wanted:
        request = EncoderRequest(family, None)
        if (found := weight_file(request, search.cache, None)) is not None:
            return search.choice(request, found, f"encoder {family.name}: the best whose weights are at hand ({found})")
    if not wanted:
        return _built_in(search, f"the larger ones are not {search.dimensions}D")
    best = wanted[0]
    size = best.source.megabytes if best.source else 0
    if not search.allow_download:
        why = f"no other weights are at hand, and downloads are off; gdm_download_encoder {best.name} fetches {size} MB"
        return _built_in(search, why)
    print(
        f"encoder {best.name}: downloading {size} MB once to {family_folder(best, search.cache)} "
        "(-encoder mini, or HF_HUB_OFFLINE=1, does without)",
        file=sys.stderr,
    )
    try:
        found = search.fetch(best)
    except GdmError as error:
        return _built_in(search, f"{error.problem}; with network, gdm_download_encoder {best.name} fetches {size} MB")
    return search.choice(EncoderRequest(best, None), found, f"encoder {best.name}: downloaded to {found}")


def _built_in(search: _Search, why: str) -> EncoderChoice:
    mini = FAMILIES["mini"]
    if search.dimensions not in mini.dimensions:
        return EncoderChoice(None, f"no encoder: {why}, nor is the built-in one")
    return search.choice(EncoderRequest(mini, None), None, f"encoder mini (built in): {why}")
