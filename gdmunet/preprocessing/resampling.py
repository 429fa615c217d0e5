"""Volumes on another number of voxels over the same extent.

Voxel edges coincide (the outer faces of the volume stay where they are), as in scikit-image and nnU-Net. Every step
(Gaussian, spline, linear) is a linear map along one axis, so the volume is multiplied by one small matrix per axis, in
float32. Far from its diagonal such a matrix holds nothing that float32 could tell from zero, so it is multiplied in
bands, and the work grows with the number of voxels alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import scipy

from gdmunet.geometry import Shape, triple
from gdmunet.host_memory import check_memory

# An axis whose voxels are this many times longer than the others' is one of thick slices.
THICK_SLICE_RATIO = 3.0
# Voxels of the new grid that are computed at once: a cubic spline reaches about 24 voxels to each side of them.
_BAND = 32
# Weights below this, of which each voxel's sum is one, are left out: float32 rounds a ten millionth. The smallest would
# be denormal numbers, with which a processor multiplies twenty times as slowly.
_NEGLIGIBLE = 1e-14


def thick_axis(*spacings: tuple[float, ...]) -> int | None:
    """The axis of thick slices: voxels over 3 times as long as along both others, in any of `spacings` (mm)."""
    for spacing in spacings:
        axis = int(np.argmax(spacing))
        if spacing[axis] > THICK_SLICE_RATIO * max(value for i, value in enumerate(spacing) if i != axis):
            return axis
    return None


def resampled_shape(shape: Shape, spacing: tuple[float, ...], new_spacing: tuple[float, ...]) -> Shape:
    """Voxels (at least one per axis) that come nearest to `new_spacing` over the same extent."""
    return triple(max(1, round(size * old / new)) for size, old, new in zip(shape, spacing, new_spacing, strict=True))


def room_bytes(shape: Shape, volumes: int) -> int:
    """Bytes of a case on the working grid (z, y, x), and of one more volume while the last is resampled."""
    return 4 * (volumes + 1) * math.prod(shape)


def check_room(shape: Shape, volumes: int, spacing: tuple[float, ...], identifier: str) -> None:
    """Refuse a case whose volumes on the working grid do not fit into memory, before anything is allocated.

    Parameters
    ----------
    shape, spacing
        Working grid (z, y, x), and its voxel size in mm.
    volumes
        Volumes of the case; while the last is resampled, one more is there.

    Raises
    ------
    GdmError
        Says the voxels, the bytes that they need and those that are free.
    """
    check_memory(
        room_bytes(shape, volumes),
        shape,
        f"resampling the case to {' x '.join(f'{size:.3g}' for size in spacing)} mm",
        "check the voxel size of the case and of the plans, or plan coarser voxels (-overwrite_target_spacing)",
        identifier,
    )


def resample(array: np.ndarray, new_shape: Shape, order: int = 3, thick: int | None = None) -> np.ndarray:
    """Interpolate a volume onto another number of voxels.

    Parameters
    ----------
    array
        (z, y, x).
    new_shape
        Voxels wanted.
    order
        Spline order along the finely sampled axes.
    thick
        The axis of thick slices, where order 1 is used: a cubic spline rings across slices that have little to do
        with each other, and order 0 (nnU-Net's choice there) repeats slices, which shows as steps in a synthesised
        image.

    Returns
    -------
    float32 (new_shape). Shrinking axes are low-pass filtered first; values never leave the range of the input.
    Where the shapes agree, `array` itself (no copy, bit for bit).
    """
    result = np.asarray(array, dtype=np.float32)
    if result.shape == tuple(new_shape):
        return result
    # Axes that shrink most go first, so that the later ones have less to do.
    for axis in sorted(range(3), key=lambda i: new_shape[i] / array.shape[i]):
        if new_shape[axis] != array.shape[axis]:
            bands = _bands(array.shape[axis], new_shape[axis], min(order, 1) if axis == thick else order)
            result = _multiply(result, bands, axis)
    return np.clip(result, np.float32(array.min()), np.float32(array.max()), out=result)


def resample_mask(mask: np.ndarray, new_shape: Shape) -> np.ndarray:
    """Interpolate a mask (z, y, x) linearly and cut at one half, bool; the mask itself where the shapes agree."""
    if mask.shape == tuple(new_shape):
        return mask
    return resample(mask, new_shape, order=1) >= 0.5


@dataclass(frozen=True, eq=False)
class _Band:
    """Weights (new, old) of neighbouring voxels of the new grid, for those voxels of the old one that they see."""

    new: slice
    old: slice
    weights: np.ndarray


def _multiply(array: np.ndarray, bands: tuple[_Band, ...], axis: int) -> np.ndarray:
    """Apply bands along one axis of (z, y, x) without a transposed copy."""
    shape = list(array.shape)
    shape[axis] = bands[-1].new.stop
    result = np.empty(shape, dtype=np.float32)
    if axis == 1:
        for band in bands:
            np.matmul(band.weights, array[:, band.old], out=result[:, band.new])
        return result
    # The other two axes as one: few large products.
    layout = (len(array), -1) if axis == 0 else (-1, array.shape[2])
    rows, into = array.reshape(layout), result.reshape(shape[0], -1) if axis == 0 else result.reshape(-1, shape[2])
    for band in bands:
        if axis == 0:
            np.matmul(band.weights, rows[band.old], out=into[band.new])
        else:
            np.matmul(rows[:, band.old], band.weights.T, out=into[:, band.new])
    return result


@functools.lru_cache(maxsize=64)
def _bands(size: int, new_size: int, order: int) -> tuple[_Band, ...]:
    """The matrix of an axis, cut into bands."""
    weights, bands = _weights(size, new_size, order), []
    for start in range(0, new_size, _BAND):
        rows = weights[start : start + _BAND]
        seen = np.flatnonzero((np.abs(rows) > _NEGLIGIBLE).any(axis=0))
        old = slice(int(seen[0]), int(seen[-1]) + 1)
        bands.append(_Band(slice(start, start + len(rows)), old, np.ascontiguousarray(rows[:, old])))
    return tuple(bands)


def _weights(size: int, new_size: int, order: int) -> np.ndarray:
    """Interpolation along one axis as a matrix (new_size, size): what each unit impulse becomes."""
    impulses = np.eye(size)
    if new_size < size:
        # The sigma of skimage.transform.resize.
        impulses = scipy.ndimage.gaussian_filter1d(impulses, (size / new_size - 1) / 2, axis=0, mode="nearest")
    if size == 1:
        return np.ones((new_size, 1), dtype=np.float32)
    # Voxel edges coincide: centre i of the new grid lies at (i + 1/2) * size / new_size - 1/2 of the old one.
    places = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    columns = [
        scipy.ndimage.map_coordinates(column, places[None], order=order, mode="nearest") for column in impulses.T
    ]
    return np.stack(columns, axis=1).astype(np.float32)
