"""``gdm_download_encoder``: fetch the weights of a frozen encoder, or list the encoders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.cli.arguments import CommandParser, run_command
from gdmunet.errors import GdmError
from gdmunet.paths import downloads_allowed, find_folders

if TYPE_CHECKING:
    from gdmunet.encoders.registry import Family


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_download_encoder",
        "Fetch the weights of a frozen encoder into the cache folder and check them; planning finds them there. With "
        "--list, show every encoder, its licence, and whether its weights are at hand.",
    )
    command.add_argument("name", nargs="?", help="name of an encoder of --list")
    command.add_argument("-l", "--list", action="store_true", help="list the encoders instead")
    command.add_argument(
        "-o", "--folder", type=Path, metavar="DIR", help="cache folder; default: $GDM_ENCODERS, else the user's cache"
    )
    command.add_argument(
        "--hub", metavar="URL", help="base address of the hub; default: $HF_ENDPOINT, else https://huggingface.co"
    )
    return command


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_download_encoder``."""
    command = parser()
    arguments = command.parse_args(argv)
    if arguments.list == (arguments.name is not None):
        command.error("give the name of an encoder, or --list")
    from gdmunet.encoders.registry import FAMILIES

    cache = arguments.folder or find_folders().encoders
    if arguments.list:
        print(_table(cache))
        return 0
    if arguments.name not in FAMILIES:
        raise GdmError(f"there is no encoder {arguments.name}", expected=", ".join(FAMILIES))
    _fetch(FAMILIES[arguments.name], cache, not arguments.no_pbar, arguments.hub)
    return 0


def _fetch(family: Family, cache: Path, show_progress: bool, hub: str | None) -> None:
    from gdmunet.encoders.download import DownloadOptions, cached_file, read_record
    from gdmunet.encoders.loading import family_folder, fetch_weights

    at_hand = family.source and cached_file(family.source, family_folder(family, cache))
    if family.source and not at_hand and not downloads_allowed():
        raise GdmError(
            "downloads are off",
            found="HF_HUB_OFFLINE is set",
            remedy=f"unset it; or elsewhere: curl -L -o {family.source.name} {family.source.url(hub)}, then put it "
            f"into {family_folder(family, cache)}",
        )
    file = fetch_weights(family, cache, DownloadOptions(hub, show_progress))
    record = read_record(file)
    print(f"{family.name}: {file}")
    if record:
        print(f"sha256: {record.sha256}, revision {record.revision}")
    print(f"licence of the weights: {family.licence}")


def _table(cache: Path) -> str:
    from gdmunet.encoders.download import cached_file
    from gdmunet.encoders.loading import family_folder
    from gdmunet.encoders.registry import FAMILIES

    rows = [("encoder", "what", "dimensions", "targets", "licence", "weights")]
    for family in FAMILIES.values():
        source = family.source
        if source is None:
            weights = "with gdmunet" if family.argument is None else f"your {family.argument.lower().replace('_', ' ')}"
        elif file := cached_file(source, family_folder(family, cache)):
            weights = f"at hand: {file}"
        else:
            weights = f"to be downloaded, {source.megabytes} MB"
        rows.append(
            (
                family.usage,
                family.summary,
                " and ".join(f"{n}D" for n in family.dimensions),
                ", ".join(family.modalities) or "any",
                family.licence,
                weights,
            )
        )
    rows.append(("file.py:factory", "your own, or package.module:factory", "", "any", "yours", "yours"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
