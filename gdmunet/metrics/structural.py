"""SSIM, and the masked multi-scale SSIM that SynthRAD2025 scores with.

Multi-scale SSIM: Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment" (2003).
SynthRAD2025's form differs from it: luminance enters at every level with the level's weight, the window is a
uniform 7^3, and the mean at every level is over the mask. Its product luminance * contrast * structure, with half of c2
in the last, is the SSIM of the window: (2 s + c2) / (v + c2) * (cov + c2 / 2) / (s + c2 / 2) = (2 cov + c2) / (v + c2),
where s is the product of the deviations and v the sum of the variances. So both scores share their map.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from gdmunet.metrics.ranges import ValueRange, filled, mask_of

WINDOW = 7
MARGIN = WINDOW // 2
_LEVEL_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# (2 - 1) * 2 ** 4 * (7 - 1) + 1: the smallest axis that still has a whole window after four halvings.
_SMALLEST_AXIS = 97
# Planes and rows whose windows are computed at a time: what belongs to them stays in a processor's cache.
_TILE = (8, 48)


@dataclass(frozen=True)
class _LevelMeans:
    """Means over the windows of one level: of the SSIM, and of its part above 0 to the power of the level's weight.

    NaN if the mask has no window.
    """

    ssim: float
    weighted: float


class StructuralSimilarity:
    """SSIM and multi-scale SSIM of one pair of volumes, which share the windows at full resolution.

    Parameters
    ----------
    target, prediction
        (z, y, x), any numeric type.
    value_range
        Both images are clipped to it; outside the mask they are set to its background.
    mask
        (z, y, x), above 0 counts; None: the whole volume.

    Raises
    ------
    GdmError
        Shapes that differ, or a mask without a voxel.
    """

    def __init__(
        self, target: np.ndarray, prediction: np.ndarray, value_range: ValueRange, mask: np.ndarray | None = None
    ) -> None:
        inside = mask_of(target, prediction, mask)
        x, y = (filled(image, inside, value_range) - value_range.low for image in (target, prediction))
        self._images, self._width = (x, y, inside), value_range.width

    @cached_property
    def ssim(self) -> float:
        """Structural similarity, mean over the mask, -1 to 1 (Wang et al. 2004; scikit-image's uniform 7^3 window).

        The three outermost voxels of the volume are left out, as in scikit-image. Axes shorter than seven voxels are
        extended by their edge values. NaN if the mask lies in those three voxels only.
        """
        large = min(self._images[0].shape) >= _SMALLEST_AXIS
        return (self._first if large else self._level(0, *(_extend(array, WINDOW) for array in self._images))).ssim

    @cached_property
    def ms_ssim(self) -> float:
        """Masked multi-scale SSIM as SynthRAD2025 computes it, 0 to 1.

        Axes shorter than 97 voxels are extended by their edge values, the mask too. NaN if no voxel of the mask is left
        at some level (a mask close to the border of the volume): the challenge's evaluator then has no number either.
        """
        result = float(np.clip(self._first.weighted, 0, 1))
        x, y, inside = (_extend(array, _SMALLEST_AXIS) for array in self._images)
        for level in range(1, len(_LEVEL_WEIGHTS)):
            x, y, inside = _halve(x), _halve(y), inside[::2, ::2, ::2]
            result *= float(np.clip(self._level(level, x, y, inside).weighted, 0, 1))
        return result

    @cached_property
    def _first(self) -> _LevelMeans:
        return self._level(0, *(_extend(array, _SMALLEST_AXIS) for array in self._images))

    def _level(self, level: int, x: np.ndarray, y: np.ndarray, inside: np.ndarray) -> _LevelMeans:
        """Means over the windows around the voxels of `inside`, except those that would leave the volume."""
        chosen = inside[(slice(MARGIN, -MARGIN),) * 3]
        (box,) = scipy.ndimage.find_objects(chosen.astype(np.int8)) or (None,)
        if box is None:
            return _LevelMeans(float("nan"), float("nan"))
        count, total, weighted = 0, 0.0, 0.0
        for tile in _tiles(box):
            around = tuple(slice(side.start, side.stop + 2 * MARGIN) for side in tile)
            found = window_ssim(x[around], y[around], self._width)[chosen[tile]]
            count, total = count + found.size, total + float(found.sum())
            weighted += float((np.maximum(found, 0) ** _LEVEL_WEIGHTS[level]).sum())
        return _LevelMeans(total / count, weighted / count)


def ssim(target: np.ndarray, prediction: np.ndarray, value_range: ValueRange, mask: np.ndarray | None = None) -> float:
    """`StructuralSimilarity.ssim` of a pair, -1 to 1."""
    return StructuralSimilarity(target, prediction, value_range, mask).ssim


def ms_ssim(
    target: np.ndarray, prediction: np.ndarray, value_range: ValueRange, mask: np.ndarray | None = None
) -> float:
    """`StructuralSimilarity.ms_ssim` of a pair, 0 to 1."""
    return StructuralSimilarity(target, prediction, value_range, mask).ms_ssim


def window_ssim(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
    """SSIM of every whole 7^3 window, (z - 6, y - 6, x - 6) float64, with sample variances.

    Parameters
    ----------
    x, y
        (z, y, x) float64, from 0.
    width
        Dynamic range.
    """
    c1, c2 = (0.01 * width) ** 2, (0.03 * width) ** 2
    sample = WINDOW**3 / (WINDOW**3 - 1)
    mean_x, mean_y = _window_means(x), _window_means(y)
    squares = mean_x * mean_x + mean_y * mean_y
    product = mean_x * mean_y
    variances = sample * (_window_means(x * x + y * y) - squares)
    covariance = sample * (_window_means(x * y) - product)
    above = (2 * product + c1) * (2 * covariance + c2)
    return np.asarray(above / ((squares + c1) * (variances + c2)))


def _window_means(image: np.ndarray) -> np.ndarray:
    """Mean of every whole 7^3 window.

    Along each axis a sum of 7 is a sum of 4, one of 2 behind it, and the last value; each adds two shorter ones.
    """
    for axis in range(3):
        whole = (slice(None),) * axis
        pairs = image[(*whole, slice(-1))] + image[(*whole, slice(1, None))]
        sums = pairs[(*whole, slice(-5))] + pairs[(*whole, slice(2, -3))]
        sums += pairs[(*whole, slice(4, -1))]
        sums += image[(*whole, slice(6, None))]
        image = sums
    image /= WINDOW**3
    return image


def _tiles(box: tuple[slice, ...]) -> list[tuple[slice, ...]]:
    """Parts of a box of a few planes and rows, with whole columns."""
    cuts = [
        [slice(first, min(first + step, side.stop)) for first in range(side.start, side.stop, step)]
        for side, step in zip(box, _TILE, strict=False)
    ]
    return [(*part, box[2]) for part in itertools.product(*cuts)]


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
