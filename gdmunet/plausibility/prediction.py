"""Is a prediction in the unit of its reference? Findings are warnings: a bad prediction is scored, and scored badly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gdmunet.plausibility import masks
from gdmunet.plausibility.cases import check_volume
from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.measures import measure, sampled

# A prediction of less than this share of its reference's width, or of more than its inverse, has another scale.
_SCALE = 0.05
# Shift of the median that is another unit: HU, and as a share of the reference's width elsewhere.
_SHIFT_HU, _SHIFT_SHARE = 400.0, 1.0


def check_prediction(
    prediction: np.ndarray, reference: np.ndarray, inside: np.ndarray | None, *, hounsfield: bool
) -> list[Finding]:
    """Doubts about the unit of a prediction.

    Parameters
    ----------
    prediction, reference
        (z, y, x) in the target's unit.
    inside
        Mask of the scored voxels, bool; None: all.
    hounsfield
        Whether the values are Hounsfield units.
    """
    expected = _texts(reference, inside)
    if prediction.min() == prediction.max():
        return [_finding("the prediction failed: it is one single value", f"{prediction.flat[0]:.4g}", expected)]
    predicted, known = _values(prediction, inside), _values(reference, inside)
    width, real = _width(predicted), _width(known)
    if not _SCALE * real <= width <= real / _SCALE:
        problem = "the prediction has another scale than its reference"
        return [_finding(problem, _texts(prediction, inside), expected)]
    shift = float(np.median(predicted) - np.median(known))
    if abs(shift) > (_SHIFT_HU if hounsfield else _SHIFT_SHARE * real):
        problem = f"the prediction is off by about {shift:+.0f}"
        return [_finding(problem, _texts(prediction, inside), expected)]
    return []


def check_reference(reference: np.ndarray, inside: np.ndarray | None, *, hounsfield: bool) -> list[Finding]:
    """Doubts about the unit of a reference in Hounsfield units, as warnings; none for other units."""
    if not hounsfield:
        return []
    sample, of_body = sampled(reference), None if inside is None else sampled(inside)
    numbers = measure(reference, sample, of_body, "CT")
    found = check_volume(reference.shape, sample, numbers, "CT", "the reference (CT)")
    return [replace(finding, wrong=False) for finding in found if finding.check == "hounsfield"]


def check_mask(
    mask: np.ndarray, values: masks.MaskValues | None, reference: np.ndarray, *, hounsfield: bool
) -> list[Finding]:
    """Doubts about a body mask that scores are taken in, as warnings."""
    place = masks.check_place(mask, [reference], ["CT" if hounsfield else "MR"])
    return [replace(finding, wrong=False) for finding in (*masks.check_values(values), *place)]


def located(findings: list[Finding], case: str, file: Path) -> list[Finding]:
    """The findings with their case and file."""
    return [replace(finding, case=case, file=f"{file.parent.name}/{file.name}") for finding in findings]


def _finding(problem: str, found: str, expected: str) -> Finding:
    return Finding("prediction", wrong=False, problem=problem, found=found, expected=f"{expected}, as the reference")


def _values(array: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    sample = sampled(array)
    if inside is None:
        return sample.ravel()
    chosen: np.ndarray = sample[sampled(inside)]
    return chosen if chosen.size else np.asarray(array[inside])


def _width(values: np.ndarray) -> float:
    low, high = np.percentile(values, (0.5, 99.5))
    return float(high - low)


def _texts(array: np.ndarray, inside: np.ndarray | None) -> str:
    low, middle, high = np.percentile(_values(array, inside), (0.5, 50, 99.5))
    return f"values {low:.4g} to {high:.4g}, median {middle:.4g}"
