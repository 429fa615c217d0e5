"""What a prediction by windows is asked for, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from gdmunet.device import Precision
from gdmunet.geometry import Shape
from gdmunet.inference.windows import check_step_size

# (B, C, z, y, x) -> (B, 1, z, y, x); of a dial's both ends two channels.
Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class WindowCount:
    """Progress of a volume: all windows, those that went through the network, those without body (filled)."""

    total: int = 0
    predicted: int = 0
    skipped: int = 0

    def __add__(self, other: WindowCount) -> WindowCount:
        return WindowCount(self.total + other.total, self.predicted + other.predicted, self.skipped + other.skipped)


@dataclass(frozen=True)
class WindowOptions:
    """Options for predicting the windows of a volume.

    Attributes
    ----------
    step_size
        Distance of neighbouring windows as a share of the window.
    background_value
        Value that fills a window without a body voxel.
    device
        Device of the network.
    batch_size
        Windows in one pass.
    mirror_axes
        Axes 0..2 to flip: the mean over all combinations of flips is taken.
    precision
        Precision of the network (autocast); sums are always float32.
    skip_empty
        Whether windows without a body voxel are filled instead of running the network on them.
    offset
        Voxels by which the grid of windows is shifted, see `plan_windows`.
    pass_bytes
        Planned bytes of a pass over one window of a shape, told if memory runs out; None: not known.
    """

    step_size: float = 0.5
    background_value: float = 0.0
    device: str | torch.device = "cpu"
    batch_size: int = 1
    mirror_axes: tuple[int, ...] = ()
    precision: Precision = "float32"
    skip_empty: bool = True
    offset: Shape = (0, 0, 0)
    pass_bytes: Callable[[Shape], int] | None = None

    def __post_init__(self) -> None:
        check_step_size(self.step_size)
        if self.batch_size < 1 or not set(self.mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"batch_size {self.batch_size}, mirror_axes {self.mirror_axes}")
