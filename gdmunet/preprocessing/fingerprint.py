"""Measurements of a data set: shapes, spacings, body shares and intensities inside the body, in raw units."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.dataset import Case, DatasetDescriptor, list_cases, load_descriptor
from gdmunet.dataset_names import SPLITS, RawFolders, Split
from gdmunet.errors import GdmError
from gdmunet.geometry import Shape, Vector
from gdmunet.imageio import read_case, write_volume
from gdmunet.plans import FINGERPRINT_FILE
from gdmunet.plausibility.cases import CaseMeasures, Expectation, check_case
from gdmunet.plausibility.findings import Finding, settle, together
from gdmunet.preprocessing.checked import checked_case
from gdmunet.preprocessing.group_names import group_findings
from gdmunet.preprocessing.known_body import BodySpec, KnownBody
from gdmunet.preprocessing.mask_folders import DERIVED_MASKS
from gdmunet.preprocessing.preprocessor import crop_case, uncrop_mask
from gdmunet.progress import say
from gdmunet.serialization import load_json, save_json
from gdmunet.workers import run_in_workers

# Body voxels of a case that its statistics are computed from.
SAMPLES = 100_000


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of body voxels, in raw units."""

    mean: float
    std: float
    median: float
    percentile_00_5: float
    percentile_99_5: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class CaseFingerprint:
    """Measurements of one case.

    Attributes
    ----------
    shape, spacing
        Voxels and mm (z, y, x) in canonical orientation, after the crop to the body.
    body_share
        Share of the crop's voxels that are body.
    intensities
        Channel number (``"0"``, ...) and ``"target"`` to the statistics in the body.
    files
        Source file (name of its folder and its own) to size and time of change: tells whether it is still the same.
    body
        Record of the body that was derived and written; None if the mask was given.
    measures
        Numbers of the whole case and its volumes that plausibility compares; None: a fingerprint of an earlier version.
    findings
        Doubts about the case.
    """

    shape: Shape
    spacing: Vector
    body_share: float
    intensities: dict[str, IntensityStatistics]
    files: dict[str, tuple[int, int]] | None = None
    body: BodySpec | None = None
    measures: CaseMeasures | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Fingerprint:
    """The content of dataset_fingerprint.json; `intensities` are pooled over all cases, each with the same weight."""

    cases: dict[str, CaseFingerprint]
    intensities: dict[str, IntensityStatistics]

    @property
    def findings(self) -> list[Finding]:
        """Doubts about all cases."""
        return [finding for case in self.cases.values() for finding in case.findings]


@dataclass(frozen=True)
class _Measured:
    fingerprint: CaseFingerprint
    samples: dict[str, np.ndarray]


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
    for line in settle([*fingerprint.findings, *group_findings(Path(dataset_folder), descriptor)], accepted):
        say(line)
    return fingerprint


def _measured(
    dataset_folder: Path, preprocessed_folder: Path, descriptor: DatasetDescriptor, processes: int, show_progress: bool
) -> Fingerprint:
    """The fingerprint that is there if no source has changed, else a new one, which is written."""
    cases = list_cases(dataset_folder, descriptor)
    file = Path(preprocessed_folder) / FINGERPRINT_FILE
    known = _load_if_unchanged(file, cases)
    if known is not None:
        return known
    items = [
        (case.identifier, (case, expectation(descriptor), _derived_file(Path(preprocessed_folder), case, descriptor)))
        for case in cases
    ]
    measured = run_in_workers(_measure, items, processes, show_progress, "fingerprint")
    fingerprint = Fingerprint(
        {case.identifier: measurement.fingerprint for case, measurement in zip(cases, measured, strict=True)},
        {key: _statistics(np.concatenate([m.samples[key] for m in measured])) for key in measured[0].samples},
    )
    save_json(fingerprint, file)
    return fingerprint


def expectation(descriptor: DatasetDescriptor) -> Expectation:
    """What a case of the data set should be."""
    return Expectation(descriptor.channels, descriptor.target_name)


def verify_dataset(
    dataset_folder: Path,
    descriptor: DatasetDescriptor,
    processes: int,
    show_progress: bool,
    accepted: Collection[str] = (),
) -> None:
    """Read every file of the training and test cases, and check that each is what it claims to be.

    What may be wrong with a test case is said; for training cases the fingerprint says it.

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
    items = [(case.identifier, (case, expectation(descriptor))) for case in cases]
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


def source_files(case: Case) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of change (ns) of every file of a case."""
    paths = [path for path in (*case.conditions, case.target, case.mask) if path is not None]
    stats = {f"{path.parent.name}/{path.name}": path.stat() for path in paths}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


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


def _load_if_unchanged(file: Path, cases: Sequence[Case]) -> Fingerprint | None:
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


def _measure(case: Case, expected: Expectation, mask_file: Path) -> _Measured:
    files = source_files(case)
    volumes, checked = checked_case(read_case(case), expected, case)
    cropped = crop_case(volumes, expected.channels)
    body = None
    if cropped.mask_source == "derived":
        mask = uncrop_mask(cropped, volumes.geometry)
        write_volume(mask_file, mask, volumes.geometry)
        body = BodySpec.of(mask)
    inside = np.flatnonzero(cropped.mask)
    generator = np.random.default_rng(list(case.identifier.encode()))
    # Every case gives the same number of samples, so that a large one does not outweigh the others.
    chosen = generator.choice(inside, SAMPLES, replace=inside.size < SAMPLES)
    arrays = {str(i): array for i, array in enumerate(cropped.conditions)}
    if cropped.target is not None:
        arrays["target"] = cropped.target
    samples = {key: np.ascontiguousarray(array).ravel()[chosen].astype(np.float32) for key, array in arrays.items()}
    statistics = {}
    for key, array in arrays.items():
        values = array[cropped.mask]
        statistics[key] = _statistics(values)
        # The extremes of the sample must be those of the body: pooled statistics then know them as well.
        samples[key][:2] = values.min(), values.max()
    fingerprint = CaseFingerprint(
        cropped.mask.shape,
        cropped.spacing,
        float(cropped.mask.mean()),
        statistics,
        files,
        body,
        checked.measures,
        checked.findings,
    )
    return _Measured(fingerprint, samples)


def _statistics(values: np.ndarray) -> IntensityStatistics:
    low, median, high = np.percentile(values, (0.5, 50, 99.5))
    return IntensityStatistics(
        mean=float(values.mean(dtype=np.float64)),
        std=float(values.std(dtype=np.float64)),
        median=float(median),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
        minimum=float(values.min()),
        maximum=float(values.max()),
    )
