"""The files of SynthRAD2025 and SynthRAD2023 in the folders of the unpacked archives.

Layouts (zenodo.org/records/15373853 and zenodo.org/records/7260705)::

    synthRAD2025_Task1_Train/Task1/AB/1ABA005/{mr,ct,mask}.mha      task 2: cbct.mha in place of mr.mha
    synthRAD2025_Task1_Train/Task1/AB/overviews/1ABA005_overview.png, 1_AB_train_parameters.xlsx
    synthRAD2025_Task1_Val_Input/Task1/AB/1ABA002/{mr,mask}.mha     no CT; the outputs hold ct.mha and ct_def.mha
    Task1/brain/1BA001/{mr,ct,mask}.nii.gz                          2023; Task1/brain/overview/1BA001_train.png

A case is known by the name of its folder, so archives may lie anywhere below the folders that are searched, and the
files of one case may come from several archives.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gdmunet.errors import GdmError
from gdmunet.volume_formats.table import ending_of, stem_of

Year = Literal["2023", "2025"]
Role = Literal["mr", "cbct", "ct", "deformed", "mask"]

# Stem of a file to what it is. The organisers' release script writes the deformed CT as ct_def.
_ROLES: dict[str, Role] = {
    "mr": "mr",
    "cbct": "cbct",
    "ct": "ct",
    "ct_def": "deformed",
    "ct_deformed": "deformed",
    "deformed_ct": "deformed",
    "mask": "mask",
}
# Letters of an identifier to the word for the region.
_REGIONS = {"AB": "AB", "HN": "HN", "TH": "TH", "B": "brain", "P": "pelvis"}
REGIONS: dict[Year, tuple[str, ...]] = {"2025": ("AB", "HN", "TH"), "2023": ("brain", "pelvis")}
_NAME = re.compile(r"([12])(AB|HN|TH|B|P)([A-E])(\d{3})")
_HELD_OUT = re.compile(r"(?:^|[_\- ])(val|validation|test)(?:[_\- ]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class SynthradName:
    """The parts of an identifier such as ``1ABA005``: task, region, centre and number.

    Attributes
    ----------
    task
        1: MR to CT; 2: CBCT to CT.
    region
        AB, HN, TH (2025), brain or pelvis (2023).
    centre
        Letter of the hospital; the letters of 2023 and of 2025 mean different hospitals.
    """

    identifier: str
    year: Year
    task: int
    region: str
    centre: str

    @property
    def groups(self) -> dict[str, str]:
        """The groups that scores are given by."""
        return {"region": self.region, "centre": self.centre}


@dataclass
class SynthradCase:
    """The files of one case, and the archives (folders above the task's) that they come from."""

    name: SynthradName
    files: dict[Role, Path] = field(default_factory=dict)
    roots: set[Path] = field(default_factory=set)
    named_held_out: bool = False

    @property
    def has_ct(self) -> bool:
        """True where there is a CT of either kind."""
        return "ct" in self.files or "deformed" in self.files


@dataclass(frozen=True)
class SynthradFiles:
    """Result of a search.

    Attributes
    ----------
    cases
        Sorted by identifier.
    duplicates
        Files that hold the same bytes as one that was taken.
    ignored
        Volumes that do not belong to any case (overviews and tables are not listed).
    """

    cases: tuple[SynthradCase, ...]
    duplicates: tuple[Path, ...]
    ignored: tuple[Path, ...]


def parse_name(text: str) -> SynthradName | None:
    """The parts of an identifier; None if `text` is not one."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    task, letters, centre, _ = match.groups()
    return SynthradName(text, "2023" if letters in "BP" else "2025", int(task), _REGIONS[letters], centre)


def challenge_groups(identifiers: Iterable[str]) -> dict[str, dict[str, str]]:
    """Region and centre of every identifier that is one of SynthRAD's."""
    return {text: name.groups for text in identifiers if (name := parse_name(text))}


def find_files(folders: Sequence[Path]) -> SynthradFiles:
    """Search folders for cases.

    Raises
    ------
    GdmError
        A folder is missing, or two files of one case have one name and different content.
    """
    cases: dict[str, SynthradCase] = {}
    duplicates: list[Path] = []
    ignored: list[Path] = []
    for folder, path in _volumes(folders):
        name = parse_name(path.parent.name)
        role = _ROLES.get(stem_of(path).lower())
        if name is None or role is None:
            ignored.append(path)
            continue
        case = cases.setdefault(name.identifier, SynthradCase(name))
        case.roots.add(_archive_of(path))
        case.named_held_out |= _is_held_out(folder, path)
        known = case.files.setdefault(role, path)
        if known != path:
            _check_same(name.identifier, known, path)
            duplicates.append(path)
    return SynthradFiles(tuple(cases[name] for name in sorted(cases)), tuple(duplicates), tuple(ignored))


def held_out_cases(cases: Sequence[SynthradCase]) -> set[str]:
    """Identifiers of validation and test cases.

    Those are cases in a folder that is called validation or test (``synthRAD2025_Task1_Val_Input``), and the cases of
    archives that hold no CT at all.
    """
    with_ct = {root for case in cases if case.has_ct for root in case.roots}
    return {
        case.name.identifier for case in cases if case.named_held_out or (not case.has_ct and not case.roots & with_ct)
    }


def _volumes(folders: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Every volume with the searched folder that it lies in; links are followed, no folder is entered twice."""
    entered: set[str] = set()
    for folder in folders:
        if not Path(folder).is_dir():
            raise GdmError("the folder is missing", file=folder, remedy="check the path; unpack the archives first")
        for here, below, names in os.walk(folder, followlinks=True):
            below[:] = sorted(name for name in below if not name.startswith("."))
            real = os.path.realpath(here)
            if real in entered:
                below.clear()
                continue
            entered.add(real)
            paths = (Path(here, name) for name in sorted(names) if not name.startswith("."))
            yield from ((Path(folder), path) for path in paths if ending_of(path))


def _archive_of(file: Path) -> Path:
    """The folder above case, region and task."""
    folder = file.parent.parent
    while folder != folder.parent and (
        folder.name in _REGIONS.values() or re.fullmatch(r"(?i)task[ _]?[12]", folder.name)
    ):
        folder = folder.parent
    return folder


def _is_held_out(folder: Path, file: Path) -> bool:
    """Whether the searched folder or one between it and the file is called validation or test."""
    between = file.parent.relative_to(folder).parts[:-1]
    return any(_HELD_OUT.search(part) for part in (folder.resolve().name, *between))


def _check_same(identifier: str, known: Path, other: Path) -> None:
    if filecmp.cmp(known, other, shallow=False):
        return
    raise GdmError(
        "a case has two files of one name that differ",
        case=identifier,
        file=other,
        found=f"content that differs from {known}",
        expected="one file, or copies of one file",
        remedy="remove the release that you do not want (the first version of SynthRAD2025 was not clipped to -1024 to "
        "3071 HU, the second is), or give one of the two folders as -i",
    )
