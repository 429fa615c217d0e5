"""Patch and batch size: the largest patch whose training step fits the memory, then as many patches as fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import MemoryFootprint
from gdmunet.preprocessing.presets import Preset
from gdmunet.preprocessing.topology import SMALLEST_EDGE, Topology, plan_topology
from gdmunet.quantities import memory_size

Footprint = Callable[[NetworkSpec, tuple[int, ...], int], MemoryFootprint]

# A patch of few-view slices keeps its extent in the slice and loses slices, down to this number: with 16 the
# context across slices is missed more than the extent in the slice helps (documentation/benchmarks.md).
FEWEST_SLICES = 32
# A gradient is averaged only over two or more different patches per step.
MIN_BATCH = 2


@dataclass(frozen=True)
class SizingProblem:
    """The limits of a patch: the network family, its channels, and the memory of one training step in bytes.

    `slice_axis` is the axis across the slices where patches in 3D are to keep the slices whole, else None. Each of
    `gpus` GPUs has that memory and an equal share of every batch.
    """

    preset: Preset
    in_channels: int
    residual_channel: int | None
    budget: int
    footprint: Footprint
    slice_axis: int | None = None
    gpus: int = 1

    @property
    def least_batch(self) -> int:
        """Fewest patches per batch."""
        return self.shared(self.preset.batch_size or MIN_BATCH)

    def shared(self, patches: int) -> int:
        """That number of patches, or a few more, so that every GPU has as many."""
        return self.gpus * -(-patches // self.gpus)

    def network(self, topology: Topology) -> NetworkSpec:
        """The network for a topology."""
        return self.preset.network(topology, self.in_channels, self.residual_channel)

    def topology(self, spacing: tuple[float, ...], patch: tuple[int, ...]) -> Topology:
        """The topology for a patch, within the preset's depth."""
        return plan_topology(spacing, patch, self.preset.max_poolings)

    def bytes_of(self, topology: Topology, batch_size: int) -> int:
        """Predicted peak of one step."""
        return self.footprint(self.network(topology), topology.patch_size, batch_size).total


@dataclass(frozen=True)
class FittedPatch:
    """A patch that fits, and the steps that led to it.

    Attributes
    ----------
    first_patch
        The patch before anything was shrunk, padded to a multiple that its topology divides.
    shrunk
        Number of steps that were taken along each axis.
    """

    topology: Topology
    first_patch: tuple[int, ...]
    shrunk: tuple[int, ...]


def first_patch(spacing: tuple[float, ...], median_shape: tuple[int, ...], preset: Preset) -> tuple[int, ...]:
    """Voxels in proportion to 1 / spacing (a cube in mm), clipped to the median shape, never too small to pool."""
    inverse = 1 / np.asarray(spacing, dtype=np.float64)
    axes = len(spacing)
    edge = preset.first_edge_3d if axes == 3 else preset.first_edge_2d
    ideal = inverse * (edge**axes / inverse.prod()) ** (1 / axes)
    patch = [max(1, min(round(float(i)), n)) for i, n in zip(ideal, median_shape, strict=True)]
    finest = min(spacing)
    if plan_topology(spacing, patch).stages == 1:
        # A U-Net needs one pooling: tiny volumes get a patch larger than themselves, and are padded into it.
        patch = [max(n, 2 * SMALLEST_EDGE) if s / finest < 2 else n for n, s in zip(patch, spacing, strict=True)]
    if plan_topology(spacing, patch).stages == 1:
        axis = spacing.index(finest)
        patch[axis] = max(patch[axis], 3 * SMALLEST_EDGE)
    return tuple(patch)


def whole_slices(patch: tuple[int, ...], median_shape: tuple[int, ...], slice_axis: int) -> tuple[int, ...]:
    """As many voxels as `patch` has, as wide in the slice as the data and as many slices as that leaves.

    At least `FEWEST_SLICES` slices: where the whole slice leaves fewer, its two axes shrink alike.
    """
    voxels = float(np.prod(patch))
    slices = median_shape[slice_axis]
    area = float(np.prod(median_shape)) / slices
    thick = min(slices, max(FEWEST_SLICES, round(voxels / area)))
    share = min(1.0, voxels / (area * thick)) ** 0.5
    wide = [max(min(n, 2 * SMALLEST_EDGE), round(share * n)) for n in median_shape]
    return _replace(tuple(wide), slice_axis, max(thick, min(patch[slice_axis], 2 * SMALLEST_EDGE)))


def fit_patch(
    spacing: tuple[float, ...], median_shape: tuple[int, ...], problem: SizingProblem, configuration: str
) -> FittedPatch:
    """Shrink the first patch until a step with two of them fits the budget.

    The axis whose patch is the largest share of the median shape shrinks first, by one divisor at a time; slices
    before all else where slices are to stay whole.

    Raises
    ------
    GdmError
        Not even the smallest patch fits.
    """
    patch = first_patch(spacing, median_shape, problem.preset)
    slice_axis = problem.slice_axis if len(spacing) == 3 else None
    if slice_axis is not None:
        patch = whole_slices(patch, median_shape, slice_axis)
    topology = problem.topology(spacing, patch)
    start, shrunk = topology.patch_size, [0] * len(spacing)
    floor = tuple(min(FEWEST_SLICES if a == slice_axis else 2 * SMALLEST_EDGE, n) for a, n in enumerate(start))
    while (needed := problem.bytes_of(topology, problem.least_batch)) > problem.budget:
        step = _shrink(spacing, topology, median_shape, floor, problem)
        if step is None:
            raise GdmError(
                f"the memory budget is too small for {configuration} with preset {problem.preset.name}",
                found=memory_size(problem.budget),
                expected=f"at least {memory_size(needed)}: the smallest patch {topology.patch_size} "
                f"with {problem.least_batch} patches per batch",
                remedy="raise -gpu_memory_target, or plan with the preset tiny",
            )
        axis, topology = step
        shrunk[axis] += 1
    return FittedPatch(topology, start, tuple(shrunk))


def _shrink(
    spacing: tuple[float, ...],
    topology: Topology,
    median_shape: tuple[int, ...],
    floor: tuple[int, ...],
    problem: SizingProblem,
) -> tuple[int, Topology] | None:
    """The next smaller patch and the axis that shrank; None if none may."""
    patch = topology.patch_size
    ratios = [n / size for n, size in zip(patch, median_shape, strict=True)]
    slice_axis = problem.slice_axis if len(patch) == 3 else None
    for axis in sorted(range(len(patch)), key=lambda axis: (axis != slice_axis, -ratios[axis])):
        # The divisor is that of the smaller patch, else valid sizes are skipped: 256 less 64 would jump over 224.
        smaller = _replace(patch, axis, max(1, patch[axis] - topology.divisors[axis]))
        divisor = problem.topology(spacing, smaller).divisors[axis]
        candidate = problem.topology(spacing, _replace(patch, axis, max(1, patch[axis] - divisor)))
        allowed = candidate.patch_size[axis] >= floor[axis] and candidate.stages > 1
        if allowed and np.prod(candidate.patch_size) < np.prod(patch):
            return axis, candidate
    return None


def fit_batch(topology: Topology, dataset_voxels: float, problem: SizingProblem) -> int:
    """Patches per batch: the number that fits, at most the preset's share of the data set's voxels, at least two.

    Several GPUs have equal shares.
    """
    if problem.preset.batch_size is not None:
        return problem.least_batch
    gpus = problem.gpus
    # In patches of each GPU. The peak grows with the batch, so the largest that fits is found by bisection.
    fits = upper = problem.least_batch // gpus
    limit = max(fits, batch_limit(topology, dataset_voxels, problem.preset) // gpus)
    while upper < limit and problem.bytes_of(topology, gpus * upper) <= problem.budget:
        fits, upper = upper, min(2 * upper, limit)
    if problem.bytes_of(topology, gpus * upper) <= problem.budget:
        return gpus * upper
    while upper - fits > 1:
        middle = (fits + upper) // 2
        if problem.bytes_of(topology, gpus * middle) <= problem.budget:
            fits = middle
        else:
            upper = middle
    return gpus * fits


def batch_limit(topology: Topology, dataset_voxels: float, preset: Preset) -> int:
    """Largest number of patches per batch that the share of the data set's voxels allows, at least two."""
    return max(MIN_BATCH, round(preset.dataset_share * dataset_voxels / float(np.prod(topology.patch_size))))


def _replace(patch: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*patch[:axis], value, *patch[axis + 1 :])
