"""The volume files of a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.volume_formats.table import FILE_ENDINGS


def find_volumes(folder: Path, endings: tuple[str, ...] = FILE_ENDINGS) -> dict[str, Path]:
    """Identifier (name without ending) to file, by name; files of other kinds and hidden ones are not seen.

    Raises
    ------
    GdmError
        Two files of one identifier.
    """
    volumes: dict[str, Path] = {}
    for path in sorted(Path(folder).iterdir()):
        ending = next((known for known in endings if path.name.endswith(known)), None)
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name.removesuffix(ending)
        if name in volumes:
            raise GdmError(
                "two files have one identifier",
                case=name,
                file=path,
                found=f"{volumes[name].name} and {path.name}",
                remedy="remove the one that is not meant",
            )
        volumes[name] = path
    return volumes


def unique_files(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Identifier to file, in their order.

    Raises
    ------
    GdmError
        Two files of one identifier, also where only upper and lower case differ, which some file systems do not see.
    """
    files: dict[str, Path] = {}
    folded: dict[str, Path] = {}
    for identifier, path in named:
        other = folded.setdefault(identifier.lower(), path)
        if other is not path:
            beside = other.parent == path.parent
            raise GdmError(
                "two files have one identifier",
                case=identifier,
                file=path,
                found=f"{other.name} and {path.name}" if beside else f"{other} and {path}",
                expected="identifiers that differ in more than the ending or upper and lower case",
                remedy="rename or remove one",
            )
        files[identifier] = path
    return files
