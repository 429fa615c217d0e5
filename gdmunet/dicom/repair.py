"""A regular grid from a stack of slices that do not form one."""

from __future__ import annotations

import math

import numpy as np
import scipy

from gdmunet.dicom.geometry_check import Stack
from gdmunet.geometry import Geometry
from gdmunet.host_memory import check_memory


def resample_stack(
    array: np.ndarray, stack: Stack, origin: np.ndarray, pixel: tuple[float, float], fill: float
) -> tuple[np.ndarray, Geometry]:
    """Interpolate slices linearly onto the regular grid that covers all of them.

    Parameters
    ----------
    array
        (n, rows, columns), in the order of `stack`, which holds no twins.
    stack
        Positions of the slices.
    origin
        World position (x, y, z) in mm of the first voxel of the first slice.
    pixel
        mm between rows, and between columns.
    fill
        Value where there is no slice: beside those that are displaced.

    Returns
    -------
    The volume (z, y, x) float32 and its grid. Slices that lie on the grid already keep their values.
    """
    length = float(stack.along[-1])
    count = max(1, round(length / stack.spacing)) + 1
    spacing = length / (count - 1)
    aside = stack.aside[:, ::-1] / pixel  # (n, 2): rows, columns
    low = np.floor(aside.min(axis=0) + 1e-3).astype(int)
    high = np.ceil(aside.max(axis=0) - 1e-3).astype(int)
    shape = (array.shape[1] + int(high[0] - low[0]), array.shape[2] + int(high[1] - low[1]))
    check_memory(
        4 * count * math.prod(shape),
        (count, *shape),
        "resampling the series onto a regular grid",
        "check the positions of the slices: one may lie far from the others",
    )
    volume = np.empty((count, *shape), dtype=np.float32)
    planes: dict[int, np.ndarray] = {}  # the two neighbours, each moved once
    for index in range(count):
        at = index * spacing
        below = int(np.clip(np.searchsorted(stack.along, at + 1e-6) - 1, 0, len(array) - 2))
        for n in (below, below + 1):
            if n not in planes:
                planes[n] = _moved(array[n], aside[n] - low, shape, fill)
        planes = {n: planes[n] for n in (below, below + 1)}
        gap = stack.along[below + 1] - stack.along[below]
        share = float(np.clip((at - stack.along[below]) / gap, 0, 1))
        share = round(share) if abs(share - round(share)) < 1e-3 else share  # rounding must not blur a whole slice
        volume[index] = (1 - share) * planes[below] + share * planes[below + 1]
    corner = origin + stack.axes[:, 0] * low[1] * pixel[1] + stack.axes[:, 1] * low[0] * pixel[0]
    geometry = Geometry(
        volume.shape,
        (spacing, *pixel),
        tuple(corner.tolist()),
        tuple(stack.axes.ravel().tolist()),
    )
    return volume, geometry


def _moved(plane: np.ndarray, by: np.ndarray, shape: tuple[int, int], fill: float) -> np.ndarray:
    """The plane on a wider one, `by` pixels (rows, columns) further; whole steps change no value."""
    whole = np.rint(by).astype(int)
    if np.abs(by - whole).max() < 1e-3:
        wide = np.full(shape, fill, dtype=np.float32)
        wide[whole[0] : whole[0] + plane.shape[0], whole[1] : whole[1] + plane.shape[1]] = plane
        return wide
    wide = np.full(shape, fill, dtype=np.float32)
    wide[: plane.shape[0], : plane.shape[1]] = plane
    moved: np.ndarray = scipy.ndimage.shift(wide, by, order=1, mode="constant", cval=fill)
    return moved
