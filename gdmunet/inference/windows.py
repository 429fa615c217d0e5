"""Places of the windows of a volume, and the share of each window in a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.geometry import Shape, triple


@dataclass(frozen=True)
class WindowGrid:
    """Places of the windows of a volume.

    Attributes
    ----------
    shape
        Size of the volume, voxels.
    window
        Size of one window, voxels.
    starts
        First voxel of the windows along each axis; the grid is their product. A window may reach beyond the
        volume (negative starts as well).
    """

    shape: Shape
    window: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.starts[0]) * len(self.starts[1]) * len(self.starts[2])


def check_step_size(step_size: float) -> None:
    """Refuse a step that is not a share of the window."""
    if not 0 < step_size <= 1:
        raise GdmError(
            "the step size of the windows is out of range",
            found=step_size,
            expected="above 0, at most 1",
            remedy="correct -step_size",
        )


def window_starts(shape: Sequence[int], window: Sequence[int], step_size: float) -> tuple[tuple[int, ...], ...]:
    """First voxel of the windows along each axis, evenly spread, at most ``step_size * window`` voxels apart.

    Parameters
    ----------
    shape, window
        Voxels along each axis. An axis that is not longer than the window has one start, 0.
    step_size
        Above 0 and at most 1: 0.5 lets neighbouring windows overlap by half.
    """
    check_step_size(step_size)
    return tuple(_axis_starts(n, w, step_size) for n, w in zip(shape, window, strict=True))


def plan_windows(shape: Shape, window: Shape, step_size: float, offset: Shape = (0, 0, 0)) -> WindowGrid:
    """The windows of a volume; a volume smaller than the window lies in the middle of one.

    `offset` shifts the whole grid towards lower voxels: by that many voxels, less than a step. It serves to measure
    how much the position of the windows changes a prediction.
    """
    starts = []
    for length, size, shift in zip(shape, window, offset, strict=True):
        stride = _stride(size, step_size)
        if not 0 <= shift < max(stride, 2):
            raise GdmError(
                "the offset of the windows is out of range",
                found=offset,
                expected=f"0 to {stride - 1}",
                remedy="give an offset in this range",
            )
        padding = stride if shift else 0
        low = shift + max(0, size - length - padding) // 2
        starts.append(tuple(s - low for s in window_starts((length + padding,), (size,), step_size)[0]))
    return WindowGrid(shape, window, (starts[0], starts[1], starts[2]))


def window_weight(size: int) -> np.ndarray:
    """Weight of each voxel of a window along one axis, (size,) float64: a Hann window (squared sine), 1 at its peak.

    The weight of a voxel is the product over the axes. At a step size of 0.5 the weights of neighbours add up to a
    constant and change as slowly as they can, so no plane stands out; a Gaussian as narrow as window / 8 left 6 to 15 %
    more change at the windows' borders than elsewhere (documentation/benchmarks.md). Taken at the voxels' middles it is
    nowhere zero, so a voxel that one window alone covers has that window's value.
    """
    hann: np.ndarray = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    hann /= hann.max()
    return hann


def window_shares(grid: WindowGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of each window in the voxels of the volume, for each axis (windows, window size) float32.

    The grid and the weights are products over the axes, and so is the sum of all weights at a voxel. The share of a
    window in a voxel is thus the product of three shares, each its weight over the sum along one axis: predictions
    times shares add up to their weighted mean, and nothing is left to be divided. Shares beyond the volume are 0.

    Raises
    ------
    ValueError
        The windows leave voxels uncovered.
    """
    return triple(_axis_shares(*axis) for axis in zip(grid.starts, grid.window, grid.shape, strict=True))


def inside(corner: Shape, window: Shape, shape: Shape) -> tuple[slice, slice, slice]:
    """The part of the volume that a window at `corner` covers."""
    return triple(slice(max(c, 0), min(c + w, n)) for c, w, n in zip(corner, window, shape, strict=True))


def _axis_shares(starts: tuple[int, ...], size: int, length: int) -> np.ndarray:
    weight = window_weight(size)
    voxels = np.array(starts)[:, None] + np.arange(size)
    within = (voxels >= 0) & (voxels < length)
    sums = np.zeros(length)
    np.add.at(sums, voxels[within], np.broadcast_to(weight, voxels.shape)[within])
    if not sums.min() > 0:
        raise ValueError(f"windows of {size} voxels at {starts} leave some of {length} voxels uncovered")
    shares = np.zeros(voxels.shape, dtype=np.float32)
    shares[within] = np.broadcast_to(weight, voxels.shape)[within] / sums[voxels[within]]
    return shares


def _stride(size: int, step_size: float) -> int:
    return max(1, int(size * step_size))


def _axis_starts(length: int, size: int, step_size: float) -> tuple[int, ...]:
    steps = -(-max(0, length - size) // _stride(size, step_size))
    # Half up, not half to even: two neighbours are then never further apart than the rounded-up spacing.
    return tuple(int(i * (length - size) / steps + 0.5) for i in range(steps + 1)) if steps else (0,)
