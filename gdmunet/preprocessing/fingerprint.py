"""Measurements of a data set: shapes, spacings, body shares and intensities inside the body, in raw units."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.dataset import Case, DatasetDescriptor, list_cases, load_descriptor
from gdmunet.dataset_names import SPLITS, RawFolders, Split
from gdmunet.errors import GdmError
from gdmunet.imageio import read_case
from gdmunet.parts import WHOLE, PartOptions
from gdmunet.plans import FINGERPRINT_FILE
from gdmunet.plausibility.cases import Expectation, check_case
from gdmunet.plausibility.findings import Finding, settle, together
from gdmunet.preprocessing.case_fingerprint import (
    CaseFingerprint,
    IntensityStatistics,
    MeasuredCase,
    measure_case,
    source_files,
    statistics_of,
)
from gdmunet.preprocessing.group_names import group_findings
from gdmunet.preprocessing.known_body import KnownBody
from gdmunet.preprocessing.mask_folders import DERIVED_MASKS
from gdmunet.progress import say
from gdmunet.serialization import load_json, save_json
from gdmunet.workers import run_in_workers


@dataclass(frozen=True)
class Fingerprint:
    """The content of dataset_fingerprint.json; `intensities` are pooled over all cases, each with the same weight."""

    cases: dict[str, CaseFingerprint]
    intensities: dict[str, IntensityStatistics]

    @property
    def findings(self) -> list[Finding]:
        """Doubts about all cases."""
        return [finding for case in self.cases.values() for finding in case.findings]


def extract_fingerprint(
    dataset_folder: Path,
    preprocessed_folder: Path,
    processes: int = 1,
    show_progress: bool = True,
    verify: bool = False,
    accepted: Collection[str] = (),
) -> Fingerprint:
    """Read every training case, check it, measure it, and write dataset_fingerprint.json.

    Where the data set has no masks, the derived ones are written as ``derived_masks/CASE.ext`` beside it.
    Where the file is there and no source file has changed since, it is read instead.

    Parameters
    ----------
    dataset_folder, preprocessed_folder
        ``DatasetXXX_Name`` in the raw and in the preprocessed folder.
    verify
        Whether all cases, the test cases too, are read first, and every problem is reported, not only the first.
    accepted
        Names of checks of plausibility whose findings are accepted.

    Raises
    ------
    GdmError
        A data set or a case that cannot be used, or is not what it claims to be.
    """
    descriptor = load_descriptor(dataset_folder)
    if verify:
        verify_dataset(Path(dataset_folder), descriptor, processes, show_progress, accepted)
    fingerprint = _measured(Path(dataset_folder), Path(preprocessed_folder), descriptor, processes, show_progress)
    say_doubts(fingerprint, Path(dataset_folder), descriptor, accepted)
    return fingerprint


def say_doubts(
    fingerprint: Fingerprint, dataset_folder: Path, descriptor: DatasetDescriptor, accepted: Collection[str]
) -> None:
    """Say what may be wrong with the data set, and refuse it if that is not accepted (GdmError)."""
    for line in settle([*fingerprint.findings, *group_findings(dataset_folder, descriptor)], accepted):
        say(line)


def _measured(
    dataset_folder: Path, preprocessed_folder: Path, descriptor: DatasetDescriptor, processes: int, show_progress: bool
) -> Fingerprint:
    """The fingerprint that is there if no source has changed, else a new one, which is written."""
    cases = list_cases(dataset_folder, descriptor)
    file = Path(preprocessed_folder) / FINGERPRINT_FILE
    known = load_if_unchanged(file, cases)
    if known is not None:
        return known
    items = [(case.identifier, arguments_of(case, descriptor, Path(preprocessed_folder))) for case in cases]
    measured = run_in_workers(measure_case, items, processes, show_progress, "fingerprint")
    fingerprint = put_together(cases, measured)
    save_json(fingerprint, file)
    return fingerprint


def arguments_of(
    case: Case, descriptor: DatasetDescriptor, preprocessed_folder: Path
) -> tuple[Case, Expectation, Path]:
    """The arguments with which a case is measured."""
    return case, expectation(descriptor), _derived_file(preprocessed_folder, case, descriptor)


def put_together(cases: Sequence[Case], measured: Sequence[MeasuredCase]) -> Fingerprint:
    """The fingerprint of a data set from those of its cases."""
    return Fingerprint(
        {case.identifier: measurement.fingerprint for case, measurement in zip(cases, measured, strict=True)},
        {key: statistics_of(np.concatenate([m.samples[key] for m in measured])) for key in measured[0].samples},
    )


def expectation(descriptor: DatasetDescriptor) -> Expectation:
    """What a case of the data set should be."""
    return Expectation(descriptor.channels, descriptor.target_name)


def verify_dataset(
    dataset_folder: Path,
    descriptor: DatasetDescriptor,
    processes: int,
    show_progress: bool,
    accepted: Collection[str] = (),
    part: PartOptions = WHOLE,
) -> None:
    """Read every file of the training and test cases, and check that each is what it claims to be.

    What may be wrong with a test case is said; for training cases the fingerprint says it.

    Parameters
    ----------
    part
        Share of the cases that is read.

    Raises
    ------
    GdmError
        One error that lists every problem, not only the first.
    """
    problems: list[GdmError] = []
    unseen: list[Finding] = []
    cases: list[Case] = []
    splits: tuple[Split, ...] = SPLITS if RawFolders(dataset_folder, "Ts").images.is_dir() else ("Tr",)
    for split in splits:
        try:
            cases += list_cases(dataset_folder, descriptor, split)
        except GdmError as error:
            problems.append(error)
    items = [(case.identifier, (case, expectation(descriptor))) for case in part.part_of(cases)]
    trained = {case.identifier for case in cases if case.conditions[0].parent == RawFolders(dataset_folder).images}
    for found in run_in_workers(_doubts, items, processes, show_progress, "checking files"):
        if isinstance(found, GdmError):
            problems.append(found)
            continue
        problems += [finding.error() for finding in found if finding.wrong and finding.check not in accepted]
        unseen += [finding for finding in found if not finding.wrong and finding.case not in trained]
    if problems:
        raise together(problems)
    for line in settle(unseen, accepted):
        say(line)


def known_bodies(
    preprocessed_folder: Path, cases: Sequence[Case], descriptor: DatasetDescriptor
) -> dict[str, KnownBody]:
    """Case to the body that the fingerprint derived from its present files; without a fingerprint, none."""
    file = Path(preprocessed_folder) / FINGERPRINT_FILE
    if descriptor.mask or not file.is_file():
        return {}
    try:
        measured = load_json(Fingerprint, file).cases
    except GdmError:
        return {}  # written by another version: bodies are derived anew
    return {
        case.identifier: KnownBody(_derived_file(Path(preprocessed_folder), case, descriptor), one.body)
        for case in cases
        if (one := measured.get(case.identifier)) and one.body is not None and one.files == source_files(case)
    }


def _derived_file(preprocessed_folder: Path, case: Case, descriptor: DatasetDescriptor) -> Path:
    return preprocessed_folder / DERIVED_MASKS / f"{case.identifier}{descriptor.file_ending}"


def load_if_unchanged(file: Path, cases: Sequence[Case]) -> Fingerprint | None:
    """The fingerprint that is there, if no source file has changed since it was made."""
    if not file.is_file():
        return None
    try:
        known = load_json(Fingerprint, file)
    except GdmError:
        return None  # written by another version: measured anew
    same = set(known.cases) == {case.identifier for case in cases} and all(
        (one := known.cases[case.identifier]).files == source_files(case) and one.measures is not None for case in cases
    )
    return known if same else None


def _doubts(case: Case, expected: Expectation) -> GdmError | tuple[Finding, ...]:
    try:
        volumes = read_case(case)
    except GdmError as error:
        return error
    return check_case(volumes, expected, case=case).findings
