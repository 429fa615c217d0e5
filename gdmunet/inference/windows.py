"""Places of the windows of a volume, and the weight of each voxel of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.geometry import Shape


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
        raise GdmError("the step size of the windows is out of range", found=step_size, expected="above 0, at most 1")


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
            raise GdmError("the offset of the windows is out of range", found=offset, expected=f"0 to {stride - 1}")
        padding = stride if shift else 0
        low = shift + max(0, size - length - padding) // 2
        starts.append(tuple(s - low for s in window_starts((length + padding,), (size,), step_size)[0]))
    return WindowGrid(shape, window, (starts[0], starts[1], starts[2]))


def importance_map(window: Shape, floor: float = 1e-6) -> np.ndarray:
    """Weight of each voxel of a window: the product of a Hann window (squared sine) along every axis.

    At a step size of 0.5 the weights of neighbours add up to a constant and change as slowly as they can, so no plane
    stands out; a Gaussian as narrow as window / 8 left 6 to 15 % more change at the windows' borders than elsewhere
    (documentation/benchmarks.md). The floor lets a voxel that only a corner covers still be divided safely.
    """
    weights = np.ones(window, dtype=np.float64)
    for axis, size in enumerate(window):
        hann = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
        weights *= hann.reshape([-1 if i == axis else 1 for i in range(3)])
    importance: np.ndarray = np.maximum(weights / weights.max(), floor)
    return importance.astype(np.float32)


def _stride(size: int, step_size: float) -> int:
    return max(1, int(size * step_size))


def _axis_starts(length: int, size: int, step_size: float) -> tuple[int, ...]:
    steps = -(-max(0, length - size) // _stride(size, step_size))
    # Half up, not half to even: two neighbours are then never further apart than the rounded-up spacing.
    return tuple(int(i * (length - size) / steps + 0.5) for i in range(steps + 1)) if steps else (0,)
