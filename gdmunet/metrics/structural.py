"""Local image statistics, and the masked multi-scale SSIM that SynthRAD2025 scores with.

Multi-scale SSIM: Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment" (2003).
SynthRAD2025's form differs from it: luminance enters at every level with the level's weight, the window is a
uniform 7^3, and the mean at every level is over the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from gdmunet.metrics.ranges import ValueRange, filled, mask_of

WINDOW = 7
MARGIN = WINDOW // 2
_LEVEL_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# (2 - 1) * 2 ** 4 * (7 - 1) + 1: the smallest axis that still has a whole window after four halvings.
_SMALLEST_AXIS = 97


@dataclass(frozen=True)
class LocalStatistics:
    """Means, sample variances and covariance of two images in a 7^3 window, each (voxels,) float64."""

    mean_x: np.ndarray
    mean_y: np.ndarray
    variance_x: np.ndarray
    variance_y: np.ndarray
    covariance: np.ndarray


def ms_ssim(
    target: np.ndarray, prediction: np.ndarray, value_range: ValueRange, mask: np.ndarray | None = None
) -> float:
    """Masked multi-scale SSIM as SynthRAD2025 computes it, 0 to 1.

    Axes shorter than 97 voxels are extended by their edge values, the mask too.

    Parameters
    ----------
    target, prediction
        (z, y, x), any numeric type.
    value_range
        Both images are clipped to it; outside the mask they are set to its background.
    mask
        (z, y, x), above 0 counts; None: the whole volume.

    Returns
    -------
    float
        NaN where no voxel of the mask is left at some level (a mask close to the border of the volume): the
        challenge's evaluator then has no number either.
    """
    inside = mask_of(target, prediction, mask)
    x, y = (filled(image, inside, value_range) - value_range.low for image in (target, prediction))
    x, y, inside = (_extend(array, _SMALLEST_AXIS) for array in (x, y, inside))
    result = 1.0
    for weight in _LEVEL_WEIGHTS:
        chosen = without_margin(inside)
        if not chosen.any():
            return float("nan")
        result *= float(np.clip(_level_score(local_statistics(x, y, chosen), value_range.width, weight), 0, 1))
        x, y, inside = _halve(x), _halve(y), inside[::2, ::2, ::2]
    return result


def local_statistics(x: np.ndarray, y: np.ndarray, chosen: np.ndarray) -> LocalStatistics:
    """Statistics of the 7^3 window around every voxel of the bool array `chosen`, which must not reach the margin.

    Only the box around the chosen voxels is filtered, and one filtered volume exists at a time.
    """
    box = scipy.ndimage.find_objects(chosen.view(np.int8))[0]
    around = tuple(slice(side.start - MARGIN, side.stop + MARGIN) for side in box)
    x, y, chosen = x[around], y[around], chosen[around]

    def mean(product: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.ndimage.uniform_filter(product, WINDOW)[chosen])

    sample = WINDOW**3 / (WINDOW**3 - 1)
    mean_x, mean_y = mean(x), mean(y)
    return LocalStatistics(
        mean_x,
        mean_y,
        variance_x=sample * (mean(x * x) - mean_x * mean_x),
        variance_y=sample * (mean(y * y) - mean_y * mean_y),
        covariance=sample * (mean(x * y) - mean_x * mean_y),
    )


def without_margin(inside: np.ndarray) -> np.ndarray:
    """`inside` without the three outermost voxels of every axis, where a window would leave the volume."""
    chosen = np.zeros_like(inside)
    core = (slice(MARGIN, -MARGIN),) * 3
    chosen[core] = inside[core]
    return chosen


def extend_to_window(array: np.ndarray) -> np.ndarray:
    """Extend axes shorter than one window by their edge values."""
    return _extend(array, WINDOW)


def _level_score(local: LocalStatistics, width: float, weight: float) -> float:
    """Mean of (luminance * contrast * structure) ** weight, each floored at 0."""
    c1, c2 = (0.01 * width) ** 2, (0.03 * width) ** 2
    c3 = c2 / 2
    # Rounding can leave a variance just below zero; only the standard deviations are mended, as in the evaluator.
    deviations = np.sqrt(np.maximum(local.variance_x, 0)) * np.sqrt(np.maximum(local.variance_y, 0))
    luminance = (2 * local.mean_x * local.mean_y + c1) / (local.mean_x**2 + local.mean_y**2 + c1)
    contrast = (2 * deviations + c2) / (local.variance_x + local.variance_y + c2)
    structure = (local.covariance + c3) / (deviations + c3)
    score = np.ones_like(luminance)
    for factor in (luminance, contrast, structure):
        score *= np.maximum(factor, 0) ** weight
    return float(score.mean())


def _extend(array: np.ndarray, smallest: int) -> np.ndarray:
    missing = [max(smallest - size, 0) for size in array.shape]
    if not any(missing):
        return array
    return np.pad(array, [(count // 2, count - count // 2) for count in missing], mode="edge")


def _halve(image: np.ndarray) -> np.ndarray:
    """Every second voxel of the 2^3 mean in which output i covers i - 1 and i (zeros before index 0)."""
    for axis in range(3):
        moved = np.moveaxis(image, axis, 0)
        half = moved[::2].copy()
        half[1:] += moved[1:-1:2]
        image = np.moveaxis(half / 2, 0, axis)
    return image
