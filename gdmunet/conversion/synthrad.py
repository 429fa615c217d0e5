"""``gdm_convert_synthrad2025``: a raw data set from the archives of SynthRAD2025 or SynthRAD2023."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from gdmunet.conversion.case_files import CaseFiles, common_ending
from gdmunet.conversion.folders import Transfer, build_dataset, free_folder
from gdmunet.conversion.synthrad_files import (
    REGIONS,
    Role,
    SynthradCase,
    Year,
    find_files,
    held_out_cases,
)
from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.quantities import counted

# Task to the role and the modality word of its condition.
_CONDITIONS: dict[int, tuple[Role, str]] = {1: ("mr", "MR"), 2: ("cbct", "CBCT")}
TargetKind = Literal["deformed", "rigid"]
Choice = TypeVar("Choice", int, Year)


@dataclass(frozen=True)
class SynthradDataset:
    """Result of a conversion.

    Attributes
    ----------
    training, held_out
        Identifiers, sorted.
    deformed
        Cases whose target is the deformed CT.
    left_out
        Identifier to the files that it lacks, for the cases that were left out.
    duplicates, ignored
        The same as in `SynthradFiles`.
    """

    folder: Path
    year: Year
    task: int
    training: tuple[str, ...]
    held_out: tuple[str, ...]
    deformed: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    duplicates: tuple[Path, ...]
    ignored: tuple[Path, ...]

    def report(self) -> str:
        """The converted and the omitted cases, as text for people."""
        targets = f", {len(self.deformed)} of all with the deformed CT as target" if self.deformed else ""
        lines = [
            f"SynthRAD{self.year} task {self.task}: {counted(self.training, 'training case')}, "
            f"{counted(self.held_out, 'validation and test case')}{targets}"
        ]
        if self.left_out:
            lines += [f"left out {len(self.left_out)} incomplete cases:", *_by_case(self.left_out)]
        for paths, what in ((self.duplicates, "copies of files"), (self.ignored, "volumes that belong to no case")):
            if paths:
                shown = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
                lines.append(f"ignored {len(paths)} {what}: {shown}")
        return "\n".join(lines)


@dataclass(frozen=True)
class SynthradOptions:
    """Choice of the cases of the archives, and their layout.

    Attributes
    ----------
    task, year
        Task and year to take if the folders hold several; None: the only one there is.
    regions
        Regions that are taken (AB, HN, TH; brain, pelvis); None: all.
    target
        ``deformed``: the deformed CT, on which SynthRAD2025 scores, where it is given, else the rigidly registered one.
        ``rigid``: always the latter.
    transfer
        Way of copying or linking the files.
    skip_incomplete
        Whether cases that lack a file are left out; they are listed.
    show_progress
        Whether a progress bar is shown.
    """

    task: int | None = None
    regions: tuple[str, ...] | None = None
    year: Year | None = None
    target: TargetKind = "deformed"
    transfer: Transfer = "copy"
    skip_incomplete: bool = False
    show_progress: bool = True

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("task", self.task, (None, *_CONDITIONS)),
            ("year", self.year, (None, *REGIONS)),
            ("target", self.target, get_args(TargetKind)),
        ):
            if value not in choices:
                expected = ", ".join(str(choice) for choice in choices if choice is not None)
                raise GdmError(
                    f"SynthRAD has no such {name}", found=value, expected=expected, remedy="choose one of these"
                )


def convert_synthrad(
    folders: Sequence[Path],
    raw_folder: Path,
    number: int,
    name: str | None = None,
    options: SynthradOptions | None = None,
) -> SynthradDataset:
    """Lay cases out as ``DatasetXXX_Name``; region and centre become groups, file ending and values stay.

    Training cases go to ``imagesTr``, validation and test cases to ``imagesTs``, with their CTs where all of them have
    one.

    Parameters
    ----------
    folders
        Folders in which the archives were unpacked; searched at any depth.
    name
        Name of the data set; None: ``SynthRAD2025Task1`` and so on.

    Raises
    ------
    GdmError
        No case, an ambiguous task or year, cases that lack files (all are named), differing files of one name, mixed
        file endings, a number that is taken.
    """
    options = options or SynthradOptions()
    archives = find_files(folders)
    year = options.year or _only_one("year", {case.name.year for case in archives.cases}, folders)
    cases = [case for case in archives.cases if case.name.year == year]
    task = options.task or _only_one("task", {case.name.task for case in cases}, folders)
    cases = _of_regions([case for case in cases if case.name.task == task], options.regions, year, task, folders)
    held_out = held_out_cases(cases)
    left_out = _incomplete(cases, held_out, task, options.target)
    if left_out and not options.skip_incomplete:
        raise _incomplete_error(left_out, len(cases))
    cases = [case for case in cases if case.name.identifier not in left_out]
    if not cases:
        raise _incomplete_error(left_out, 0)
    destination = free_folder(Path(raw_folder), number, name or f"SynthRAD{year}Task{task}")
    files = [_case_files(case, task, options.target) for case in cases]
    deformed = {case.files.get("deformed") for case in cases} - {None}
    result = SynthradDataset(
        folder=destination,
        year=year,
        task=task,
        training=tuple(case.identifier for case in files if case.identifier not in held_out),
        held_out=tuple(case.identifier for case in files if case.identifier in held_out),
        deformed=tuple(case.identifier for case in files if case.target in deformed),
        left_out=left_out,
        duplicates=archives.duplicates,
        ignored=archives.ignored,
    )
    build_dataset(
        destination, _describe(result, files, cases), files, held_out, options.transfer, options.show_progress
    )
    return result


def _describe(result: SynthradDataset, files: list[CaseFiles], cases: list[SynthradCase]) -> DatasetDescriptor:
    return DatasetDescriptor(
        channel_names={"0": _CONDITIONS[result.task][1]},
        target_name="CT",
        file_ending=common_ending(files),
        numTraining=len(result.training),
        name=result.folder.name.split("_", 1)[1],
        mask=True,
        groups={case.name.identifier: case.name.groups for case in cases},
        info={
            "challenge": f"SynthRAD{result.year}",
            "task": result.task,
            "deformed_ct": list(result.deformed),
            "left_out": {case: list(lacking) for case, lacking in result.left_out.items()},
        },
    )


def _only_one(what: str, values: set[Choice], folders: Sequence[Path]) -> Choice:
    if len(values) == 1:
        return values.pop()
    if values:
        raise GdmError(
            f"the folders hold more than one {what}",
            file=folders[0],
            found=", ".join(map(str, sorted(values))),
            expected=f"one {what}: the identifiers would mix different tasks or releases",
            remedy=f"choose with --{what} {min(values)} or --{what} {max(values)}",
        )
    raise GdmError(
        "there are no SynthRAD cases",
        file=folders[0],
        found="no folder whose name is an identifier and that holds mr, cbct, ct or mask",
        expected="Task1/AB/1ABA005/{mr,ct,mask}.mha (2025) or Task1/brain/1BA001/{mr,ct,mask}.nii.gz (2023)",
        remedy="unpack the archives, and give the folder in which they were unpacked",
    )


def _of_regions(
    cases: list[SynthradCase], regions: Sequence[str] | None, year: Year, task: int, folders: Sequence[Path]
) -> list[SynthradCase]:
    there = {case.name.region for case in cases}
    for region in regions if regions is not None else there or REGIONS[year][:1]:
        if region not in there:
            raise GdmError(
                "no case of a region, year and task",
                file=folders[0],
                found=f"task {task} of {year} with {', '.join(sorted(there)) or 'no region'}",
                expected=f"{region}; {year} has {', '.join(REGIONS[year])}",
                remedy="unpack its archive, or correct --regions, --task or --year",
            )
    return [case for case in cases if regions is None or case.name.region in regions]


def _incomplete(
    cases: Sequence[SynthradCase], held_out: set[str], task: int, target: TargetKind
) -> dict[str, tuple[str, ...]]:
    """Identifier to the files that it lacks. Held-out cases have a CT all or none."""
    scored = any(_target_of(case, target) for case in cases if case.name.identifier in held_out)
    lacking: dict[str, tuple[str, ...]] = {}
    for case in cases:
        name = case.name.identifier
        missing = [role for role in (_CONDITIONS[task][0], "mask") if role not in case.files]
        if _target_of(case, target) is None and (scored or name not in held_out):
            missing.append("ct")
        if missing:
            lacking[name] = tuple(missing)
    return lacking


def _incomplete_error(lacking: Mapping[str, Sequence[str]], total: int) -> GdmError:
    return GdmError(
        f"{len(lacking)} of {counted(total, 'case')} lack files" if total else "no case is complete",
        found="\n" + "\n".join(_by_case(lacking)),
        expected="condition, mask and CT for every training case; CTs for all validation and test cases, or for none",
        remedy="unpack the archives again, give the folder of the missing ones too (-i takes several), or leave these "
        "cases out with --skip_incomplete",
    )


def _by_case(lacking: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"    {name}: no {', no '.join(missing)}" for name, missing in sorted(lacking.items())]


def _target_of(case: SynthradCase, target: TargetKind) -> Path | None:
    rigid = case.files.get("ct")
    return rigid if target == "rigid" else case.files.get("deformed", rigid)


def _case_files(case: SynthradCase, task: int, target: TargetKind) -> CaseFiles:
    condition = case.files[_CONDITIONS[task][0]]
    return CaseFiles(case.name.identifier, (condition,), _target_of(case, target), case.files["mask"])
