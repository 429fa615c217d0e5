"""Measurements of one case of a data set, and the sample of its body voxels that pooled statistics are made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.atomic import atomic_file
from gdmunet.dataset import Case
from gdmunet.foreign import reading
from gdmunet.geometry import Shape, Vector
from gdmunet.host_memory import planned_memory
from gdmunet.imageio import CaseVolumes, read_case, write_volume
from gdmunet.plausibility.cases import CaseMeasures, Expectation
from gdmunet.plausibility.findings import Finding
from gdmunet.preprocessing.checked import checked_case
from gdmunet.preprocessing.known_body import BodySpec
from gdmunet.preprocessing.preprocessor import crop_case, uncrop_mask

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
class MeasuredCase:
    """Measurements of a case, and the sample of its body voxels by channel."""

    fingerprint: CaseFingerprint
    samples: dict[str, np.ndarray]


def source_files(case: Case) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of change (ns) of every file of a case."""
    paths = [path for path in (*case.conditions, case.target, case.mask) if path is not None]
    stats = {f"{path.parent.name}/{path.name}": path.stat() for path in paths}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def measure_case(case: Case, expected: Expectation, mask_file: Path) -> MeasuredCase:
    """Read a case, check it and measure it; a body that had to be derived is written as `mask_file`."""
    read = read_case(case)
    with planned_memory(read.crop_bytes, "measuring the case", case.identifier):
        return _measured(case, read, expected, mask_file)


def _measured(case: Case, read: CaseVolumes, expected: Expectation, mask_file: Path) -> MeasuredCase:
    files = source_files(case)
    volumes, checked = checked_case(read, expected, case)
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
        statistics[key] = statistics_of(values)
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
    return MeasuredCase(fingerprint, samples)


def statistics_of(values: np.ndarray) -> IntensityStatistics:
    """Statistics of values, in their unit."""
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


def measure_apart(case: Case, expected: Expectation, mask_file: Path, samples_file: Path) -> CaseFingerprint:
    """Measure a case whose sample is written as `samples_file`, for whoever puts the cases together."""
    measured = measure_case(case, expected, mask_file)
    with atomic_file(samples_file) as stream:
        np.savez(stream, **measured.samples)  # type: ignore[arg-type]  # names of channels
    return measured.fingerprint


def read_samples(file: Path, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """The sample that `measure_apart` wrote: `SAMPLES` float32 for each channel."""
    with reading("a sample of body voxels cannot be read", file), np.load(file, allow_pickle=False) as content:
        return {key: content[key] for key in keys}
