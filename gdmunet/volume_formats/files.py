"""The volume files of a folder, and the files that are left out of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.plausibility.names import plain_name
from gdmunet.quantities import counted, listed
from gdmunet.volume_formats.table import FILE_ENDINGS, format_of, stem_of

# Volumes of formats that are not read here: to pass over one would lose a case without a word.
_FOREIGN = (
    ".img", ".img.gz", ".hdr", ".nii.bz2", ".nii.xz", ".nii.zst", ".mgh", ".mgz", ".mnc", ".gipl", ".gipl.gz", ".dcm",
    ".ima", ".vtk", ".vti", ".par", ".rec", ".brik", ".head",
)  # fmt: skip
# Temporary files and folders of gdmunet itself.
_OWN = ".tmp-"


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Attributes
    ----------
    folder
        The folder.
    volumes
        Identifier (name without ending) to file, by name.
    left_out
        Names of everything else: sidecars, hidden files, folders (which end in a slash).
    """

    folder: Path
    volumes: dict[str, Path]
    left_out: tuple[str, ...]

    def sentence(self, taken: Collection[Path] | None = None) -> str | None:
        """Such as ``imagesTr: 3 volumes taken, 2 files left out: Thumbs.db, a.json``; None if nothing was left out.

        Parameters
        ----------
        taken
            The volumes that are used; None: all.
        """
        unused = [path.name for path in self.volumes.values() if taken is not None and path not in taken]
        left_out = sorted([*unused, *self.left_out])
        if not left_out:
            return None
        used = counted(len(self.volumes) - len(unused), "volume")
        return f"{self.folder.name}: {used} taken, {counted(left_out, 'file')} left out: {listed(left_out)}"


def list_volumes(folder: Path, endings: tuple[str, ...] = FILE_ENDINGS) -> Listing:
    """Sort what lies in a folder into volumes and the rest; a name in capitals is a volume as well.

    Raises
    ------
    GdmError
        Two files of one identifier, or a volume in a format that is not read here.
    """
    return _sorted_out(Path(folder), {path: path.is_file() for path in sorted(Path(folder).iterdir())}, endings)


def listed_elsewhere(folder: Path, names: Iterable[str]) -> Listing:
    """Sort the names of files that lie elsewhere, as those of `folder`, into which they will be copied.

    A file of voxels beside its header counts as left out.

    Raises
    ------
    GdmError
        As `list_volumes`.
    """
    return _sorted_out(folder, dict.fromkeys((folder / name for name in sorted(names)), True), FILE_ENDINGS)


def _sorted_out(folder: Path, entries: Mapping[Path, bool], endings: tuple[str, ...]) -> Listing:
    """Sort entries, each with whether it is a file, into volumes and the rest."""
    volumes: list[tuple[str, Path]] = []
    left_out: list[Path] = []
    for path, is_file in entries.items():
        ending = next((known for known in endings if path.name.lower().endswith(known)), None)
        hidden = path.name.startswith(".")
        if ending is not None and not hidden and is_file:
            volumes.append((path.name[: len(path.name) - len(ending)], path))
        elif path.name.lower().endswith(_FOREIGN) and not hidden and endings == FILE_ENDINGS and is_file:
            raise _foreign_error(path)
        elif not path.name.startswith(_OWN):
            left_out.append(path)
    files = unique_files(volumes)
    rest = _without_parts(left_out, files) if endings == FILE_ENDINGS else left_out
    return Listing(folder, files, tuple(f"{path.name}/" if path.is_dir() else path.name for path in rest))


def find_volumes(folder: Path, endings: tuple[str, ...] = FILE_ENDINGS) -> dict[str, Path]:
    """Identifier (name without ending) to file, by name; see `list_volumes`."""
    return list_volumes(folder, endings).volumes


def left_out_of(folders: Iterable[Path | None], taken: Collection[Path] | None = None) -> list[str]:
    """A sentence for each folder in which something was left out; None and missing folders have none."""
    there = dict.fromkeys(Path(folder) for folder in folders if folder is not None and Path(folder).is_dir())
    return [line for folder in there if (line := list_volumes(folder).sentence(taken))]


def unique_files(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Identifier to file, in their order.

    Raises
    ------
    GdmError
        Two files of one identifier, also if only upper and lower case, spaces or the form of Unicode differ, which some
        file systems, and eyes, do not see.
    """
    files: dict[str, Path] = {}
    folded: dict[str, Path] = {}
    for identifier, path in named:
        other = folded.setdefault(plain_name(identifier), path)
        if other is not path:
            beside = other.parent == path.parent
            raise GdmError(
                "two files have one identifier",
                case=identifier,
                file=path,
                found=f"{other.name} and {path.name}" if beside else f"{other} and {path}",
                expected="identifiers that differ in more than ending, case, spaces or the form of Unicode",
                remedy="rename or remove one",
            )
        files[identifier] = path
    return files


def _without_parts(left_out: list[Path], volumes: dict[str, Path]) -> list[Path]:
    """The files that no header names as the place of its voxels; headers are read only if there are such files."""
    if not left_out:
        return left_out
    parts: set[Path] = set()
    for path in volumes.values():
        try:
            parts.update(format_of(path).parts(path))
        except (GdmError, OSError):  # a damaged header is an error when the volume is read
            continue
    return [path for path in left_out if path not in parts]


def _foreign_error(path: Path) -> GdmError:
    return GdmError(
        "a volume is in a format that is not read here",
        case=stem_of(path),
        file=path,
        found=path.name,
        expected=f"files that end in {', '.join(FILE_ENDINGS)}",
        remedy="convert the file (DICOM series to volumes as well), or move it elsewhere",
    )
