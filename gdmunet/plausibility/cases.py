"""The plausibility of one case: every volume by its modality, the mask, and the ranges of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdmunet.dataset import Case
from gdmunet.geometry import canonical_axes
from gdmunet.hounsfield import is_hounsfield
from gdmunet.imageio import CaseVolumes
from gdmunet.plausibility import masks
from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.measures import VolumeMeasures, measure, sampled
from gdmunet.plausibility.numbers import case_values, numbers_of, values_of
from gdmunet.plausibility.places import check_places
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.plausibility.ranges import outside_case, outside_volume
from gdmunet.plausibility.unit import EXPECTED, doubt_of_hounsfield, is_ct_word, looks_like_ct

TARGET = "target"
_FEWEST_VOXELS, _SHORTEST_AXIS = 200, 5
_LEAST_STRUCTURE = 0.1


@dataclass(frozen=True)
class CaseMeasures:
    """Numbers of one case: of the whole, and of its volumes by channel number (``"0"``, ...) and ``"target"``."""

    case: dict[str, float]
    volumes: dict[str, VolumeMeasures]


@dataclass(frozen=True)
class CheckedCase:
    """Result of the plausibility step for one case."""

    measures: CaseMeasures
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Expectation:
    """What a case should be: its words, and the ranges of the training cases if they are known."""

    channels: tuple[str, ...]
    target: str
    ranges: RangeSpec | None = None


def check_case(
    volumes: CaseVolumes, expected: Expectation, body: np.ndarray | None = None, case: Case | None = None
) -> CheckedCase:
    """Measure a case and compare it with what it claims to be.

    Parameters
    ----------
    volumes
        The case as it was read; its mask is checked if it was given.
    body
        Body (z, y, x) bool, given or derived; None: no body was found, and the whole volume counts.
    case
        The files of the case, which findings name; None: it has none.
    """
    body = volumes.mask if body is None else body
    files = case.conditions if case is not None and len(case.conditions) == len(expected.channels) else ()
    found: list[Finding] = check_places(volumes.two_places)
    measured: dict[str, VolumeMeasures] = {}
    arrays = [
        *(
            (str(i), array, expected.channels[i], files[i] if files else None)
            for i, array in enumerate(volumes.conditions)
        ),
        *(
            [(TARGET, volumes.target, expected.target, case.target if case else None)]
            if volumes.target is not None
            else []
        ),
    ]
    sampled_body = None if body is None else sampled(body)
    for key, array, word, file in arrays:
        sample = sampled(array)
        measured[key] = measure(array, sample, sampled_body, word)
        what = f"the target ({word})" if key == TARGET else f"channel {key} ({word})"
        found += _located(check_volume(array.shape, sample, measured[key], word, what), file)
    if volumes.mask is not None and volumes.mask_source == "given":
        place = masks.check_place(volumes.mask, list(volumes.conditions), expected.channels)
        found += _located([*masks.check_values(volumes.mask_values), *place], case.mask if case else None)
    canonical = canonical_axes(volumes.geometry).apply_to_geometry(volumes.geometry)
    share = 1.0 if body is None else float(np.count_nonzero(body) / body.size)
    numbers = case_values(canonical.shape, canonical.spacing, share)
    if expected.ranges is not None:
        found += _located(_outside(numbers, measured, expected, expected.ranges), files[0] if files else None)
    named = tuple(replace(finding, case=volumes.identifier) for finding in found)
    return CheckedCase(CaseMeasures(numbers, measured), named)


def check_volume(
    voxels: tuple[int, ...], sample: np.ndarray, numbers: VolumeMeasures, word: str, what: str
) -> list[Finding]:
    """Doubts about one volume: its size, whether it is an image, and its unit.

    Parameters
    ----------
    voxels, sample
        Shape (z, y, x), and `sampled` of its values.
    word, what
        Modality, and the volume in words.
    """
    shape = " x ".join(map(str, voxels))
    if math.prod(voxels) < _FEWEST_VOXELS or sorted(voxels)[1] < _SHORTEST_AXIS:
        expected = f"{_FEWEST_VOXELS} voxels or more, and {_SHORTEST_AXIS} along two axes"
        return [Finding("size", True, f"{what} is too small to be a volume of a patient", f"{shape} voxels", expected)]
    if numbers.structure < _LEAST_STRUCTURE:
        noise = f"neighbouring voxels correlate by {numbers.structure:.2f}"
        return [Finding("structure", True, f"{what} is noise without a body", noise, "an image: 0.5 to 1")]
    if is_hounsfield(word):
        doubt = doubt_of_hounsfield(sample, numbers)
        if doubt is not None:
            verb = "is not" if doubt.wrong else "may not be"
            return [Finding("hounsfield", doubt.wrong, f"{what} {verb} in Hounsfield units", doubt.found, EXPECTED)]
    elif not is_ct_word(word) and looks_like_ct(sample, numbers):
        values = f"values {numbers.low:.4g} to {numbers.high:.4g}, {100 * numbers.air_share:.0f} % below -900"
        return [Finding("modality", True, f"{what} looks like a CT in Hounsfield units", values, f"a volume of {word}")]
    return []


def _outside(
    numbers: dict[str, float], measured: dict[str, VolumeMeasures], expected: Expectation, ranges: RangeSpec
) -> list[Finding]:
    found = outside_case(numbers, ranges)
    for channel, word in enumerate(expected.channels):
        values = values_of(numbers_of(word), measured[str(channel)])
        found += outside_volume(values, ranges, channel, word)
    return found


def _located(findings: Sequence[Finding], file: Path | None) -> list[Finding]:
    """The findings with the folder's and the file's own name."""
    if file is None:
        return list(findings)
    return [replace(finding, file=f"{file.parent.name}/{file.name}") for finding in findings]
