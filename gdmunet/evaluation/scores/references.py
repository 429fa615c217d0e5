"""Naive references that a model must beat: the condition itself, a fitted intensity mapping, the mean target.

A model that does not beat a monotone mapping of intensities has not learned anatomy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.metrics import mae

BINS = 256
_VOXELS_PER_CASE = 200_000


@dataclass(frozen=True)
class ReferenceCase:
    """One case for the references; all (z, y, x), the condition one channel, mask None: the whole volume."""

    identifier: str
    condition: np.ndarray
    target: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class IntensityMapping:
    """A monotone, piecewise linear function from condition intensity to target value.

    Attributes
    ----------
    inputs
        (knots,) rising condition intensities.
    outputs
        (knots,) target values there, rising or falling.
    """

    inputs: np.ndarray
    outputs: np.ndarray

    @property
    def rising(self) -> bool:
        """True where a brighter condition means a higher target value."""
        return bool(self.outputs[-1] >= self.outputs[0])

    def apply(self, condition: np.ndarray) -> np.ndarray:
        """Map a condition of any shape, float32; beyond the fitted intensities the outermost value holds."""
        return np.asarray(np.interp(condition, self.inputs, self.outputs), dtype=np.float32)


@dataclass(frozen=True)
class ReferenceErrors:
    """Mean absolute error in the mask, in the target's unit; condition None where it is of another modality."""

    condition: float | None
    mapping: float
    mean_target: float


@dataclass(frozen=True)
class ReferenceScores:
    """The fitted references and their errors, by test case and as the mean over test cases."""

    mapping: IntensityMapping
    mean_target: float
    cases: dict[str, ReferenceErrors]
    mean: ReferenceErrors


def fit_intensity_mapping(
    conditions: Iterable[np.ndarray],
    targets: Iterable[np.ndarray],
    masks: Iterable[np.ndarray | None],
    bins: int = BINS,
) -> IntensityMapping:
    """Fit the monotone mapping with the least mean absolute error over the training cases' masks.

    The condition's intensities are cut into `bins` quantile bins; isotonic L1 regression (pool adjacent violators
    with medians) over the bins gives the values, and the better of a rising and a falling fit is taken. L1 because the
    references are compared by MAE: no other monotone step function over these bins has a lower one.

    Parameters
    ----------
    conditions, targets, masks
        One (z, y, x) array for each case; mask None: the whole volume. Intensities of MR vary between scans: normalise
        the conditions first, or the mapping is weaker than necessary. At most 200,000 voxels of each case are used,
        evenly spread.
    """
    pairs = [_sample(*case) for case in zip(conditions, targets, masks, strict=True)]
    if not pairs:
        raise GdmError(
            "an intensity mapping needs at least one training case", found="none", remedy="give training cases"
        )
    x, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    starts = np.unique(np.concatenate([[0], np.searchsorted(x, edges, side="right")]))
    starts = starts[starts < x.size]
    inputs = np.array([np.median(part) for part in np.split(x, starts[1:])])
    samples = np.split(y, starts[1:])
    rising = isotonic_medians(samples)
    falling = -isotonic_medians([-part for part in samples])
    outputs = min((rising, falling), key=lambda values: _absolute_error(samples, values))
    return IntensityMapping(inputs, outputs)


def isotonic_medians(samples: list[np.ndarray]) -> np.ndarray:
    """The non-decreasing values, one for each sample, with the least sum of absolute deviations.

    Pool adjacent violators: a block whose median lies below its left neighbour's joins it. Medians are lower medians,
    so that the median of a union lies between those of its parts, on which the method's optimality rests.

    Parameters
    ----------
    samples
        Arrays (n_i,), none empty.
    """
    blocks: list[tuple[np.ndarray, int, float]] = []
    for sample in samples:
        values, width, median = sample, 1, _lower_median(sample)
        while blocks and blocks[-1][2] > median:
            left, left_width, _ = blocks.pop()
            values, width = np.concatenate([left, values]), width + left_width
            median = _lower_median(values)
        blocks.append((values, width, median))
    return np.repeat([median for _, _, median in blocks], [width for _, width, _ in blocks])


def fit_mean_target(targets: Iterable[np.ndarray], masks: Iterable[np.ndarray | None]) -> float:
    """Mean target value over all masked voxels of the training cases."""
    total, count = 0.0, 0
    for target, mask in zip(targets, masks, strict=True):
        values = target.ravel() if mask is None else target[mask > 0]
        total, count = total + float(values.sum(dtype=np.float64)), count + values.size
    if not count:
        raise GdmError(
            "a mean target needs voxels",
            found="no training case, or empty masks",
            remedy="give training cases whose masks hold a body",
        )
    return total / count


def score_references(
    training: Iterable[ReferenceCase], test: Iterable[ReferenceCase], *, same_modality: bool
) -> ReferenceScores:
    """Fit the references on the training cases and give the mean absolute error of each on the test cases.

    Parameters
    ----------
    training, test
        The training cases are held in memory together, the test cases are read one by one.
    same_modality
        True where the condition is an image of the target's modality and unit, so that it is a prediction itself.
    """
    cases = list(training)
    conditions, targets, masks = ([getattr(case, name) for case in cases] for name in ("condition", "target", "mask"))
    mapping = fit_intensity_mapping(conditions, targets, masks)
    mean_target = fit_mean_target(targets, masks)
    errors = {
        case.identifier: ReferenceErrors(
            condition=mae(case.target, case.condition, case.mask) if same_modality else None,
            mapping=mae(case.target, mapping.apply(case.condition), case.mask),
            mean_target=mae(case.target, np.full_like(case.target, mean_target, dtype=np.float32), case.mask),
        )
        for case in test
    }
    if not errors:
        raise GdmError("references need at least one test case", found="none", remedy="give test cases")
    every = list(errors.values())
    mean = ReferenceErrors(
        condition=float(np.mean([case.condition for case in every])) if same_modality else None,
        mapping=float(np.mean([case.mapping for case in every])),
        mean_target=float(np.mean([case.mean_target for case in every])),
    )
    return ReferenceScores(mapping, mean_target, errors, mean)


def _sample(condition: np.ndarray, target: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if condition.shape != target.shape:
        raise GdmError(
            "condition and target differ in shape",
            found=condition.shape,
            expected=target.shape,
            remedy="give both on one grid",
        )
    chosen = np.arange(target.size) if mask is None else np.flatnonzero(mask > 0)
    if not chosen.size:
        raise GdmError(
            "the mask has no voxel", expected="a body mask", remedy="give a mask that holds the body, or none"
        )
    chosen = chosen[:: -(-chosen.size // _VOXELS_PER_CASE)]
    return condition.ravel()[chosen].astype(np.float64), target.ravel()[chosen].astype(np.float64)


def _lower_median(values: np.ndarray) -> float:
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle)[middle])


def _absolute_error(samples: list[np.ndarray], values: np.ndarray) -> float:
    return float(sum(np.abs(part - value).sum() for part, value in zip(samples, values, strict=True)))
