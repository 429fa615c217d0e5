"""The pooling of a U-Net and its voxel size: nnU-Net v2's rules as pure functions.

Both functions agree with nnU-Net v2 exactly (`tests/preprocessing/test_nnunet_agreement.py` compares them).
The rules are from Isensee et al., "nnU-Net", Nature Methods 2021, and its public implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.geometry import triple

# A feature map keeps at least this many voxels along a pooled axis.
SMALLEST_EDGE = 4
# An axis this many times coarser than the others, with that many times fewer voxels, is anisotropic.
ANISOTROPY = 3


@dataclass(frozen=True)
class Topology:
    """Strides and kernels of a U-Net, finest stage first, and the patch that they divide.

    Attributes
    ----------
    strides, kernel_sizes
        One tuple per stage, one number per axis; the first stride is 1 everywhere, the last kernel 3 everywhere.
    patch_size
        The patch padded up to a multiple of `divisors`, in voxels.
    poolings
        Number of times that each axis is halved.
    """

    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    patch_size: tuple[int, ...]
    poolings: tuple[int, ...]

    @property
    def stages(self) -> int:
        """Resolutions of the U-Net, the bottleneck included."""
        return len(self.strides)

    @property
    def divisors(self) -> tuple[int, ...]:
        """Divisor of each axis of a patch."""
        return tuple(2**count for count in self.poolings)


def plan_topology(spacing: Sequence[float], patch_size: Sequence[float], max_poolings: int | None = None) -> Topology:
    """Pool the fine axes until every axis has about one voxel size, then all of them together.

    Parameters
    ----------
    spacing
        Voxel size in mm, two or three axes.
    patch_size
        Wanted patch in voxels, same axes.
    max_poolings
        Largest number of poolings (stages - 1); None: as many as the patch allows.

    Returns
    -------
    Topology
        Topology whose patch is padded up to a multiple of its strides.
    """
    axes = range(len(spacing))
    current_spacing, current_size = [float(s) for s in spacing], [float(s) for s in patch_size]
    poolings, kernel = [0 for _ in axes], [1 for _ in axes]
    strides: list[tuple[int, ...]] = [tuple(kernel)]
    kernels: list[tuple[int, ...]] = []
    while max_poolings is None or len(kernels) < max_poolings:
        pooled = _axes_to_pool(current_spacing, current_size)
        if not pooled:
            break
        finest = min(current_spacing)
        kernel = [3 if kernel[axis] == 3 or current_spacing[axis] / finest < 2 else 1 for axis in axes]
        for axis in pooled:
            poolings[axis] += 1
            current_spacing[axis] *= 2
            current_size[axis] = math.ceil(current_size[axis] / 2)
        strides.append(tuple(2 if axis in pooled else 1 for axis in axes))
        kernels.append(tuple(kernel))
    kernels.append(tuple(3 for _ in axes))
    padded = tuple(int(math.ceil(size / 2**count) * 2**count) for size, count in zip(patch_size, poolings, strict=True))
    return Topology(tuple(strides), tuple(kernels), padded, tuple(poolings))


def _axes_to_pool(spacing: list[float], size: list[float]) -> list[int]:
    """Axes large enough to halve whose spacing is less than twice the finest of these; none ends the pooling."""
    large = [axis for axis in range(len(size)) if size[axis] >= 2 * SMALLEST_EDGE]
    if not large:
        return []
    finest = min(spacing[axis] for axis in large)
    kept = [axis for axis in large if spacing[axis] / finest < 2]
    # One axis alone is worth a stage only while it stays longer than the smallest edge.
    if len(kept) == 1 and size[kept[0]] < 3 * SMALLEST_EDGE:
        return []
    return kept


def fullres_target_spacing(
    spacings: Sequence[Sequence[float]], sizes: Sequence[Sequence[float]]
) -> tuple[float, float, float]:
    """Working voxel size of the full resolution: the median, finer along thick slices.

    Parameters
    ----------
    spacings
        Voxel size of each case in mm (z, y, x).
    sizes
        Voxels of each case (z, y, x) after the crop, before resampling.

    Returns
    -------
    tuple
        mm (z, y, x). Along an anisotropic axis it is the 10th percentile, so that thin-slice cases keep their detail,
        yet never finer than the other axes.
    """
    all_spacings = np.asarray(spacings, dtype=np.float64)
    target = np.percentile(all_spacings, 50, axis=0)
    size = np.percentile(np.asarray(sizes, dtype=np.float64), 50, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    widest = float(max(target[others]))
    if target[coarse] > ANISOTROPY * widest and size[coarse] * ANISOTROPY < min(size[others]):
        thin = float(np.percentile(all_spacings[:, coarse], 10))
        target[coarse] = thin if thin >= widest else widest + 1e-5
    return triple(float(value) for value in target)
