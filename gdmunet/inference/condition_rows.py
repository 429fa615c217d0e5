"""The part of a condition that a layer of windows sees, on the network's device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from gdmunet.geometry import Shape
from gdmunet.inference.windows import WindowGrid


class ConditionRows:
    """Rows (C, rows, y, x) of a condition as float32 on a device, with what lies around them where windows reach out.

    Rows that the next layer needs too are kept, so each is brought to the device once, without waiting for it. On the
    device of the condition the rows are views of it.

    Parameters
    ----------
    condition
        (C, z, y, x) of any number type.
    padding
        Value of each channel beyond the volume; None: its border values go on.

    Attributes
    ----------
    moves
        Whether the rows lie elsewhere and are brought to the device.
    pads
        Whether windows reach beyond the volume.
    """

    def __init__(
        self,
        condition: np.ndarray | torch.Tensor,
        grid: WindowGrid,
        padding: Sequence[float] | None,
        device: torch.device,
    ) -> None:
        self.condition, self.grid, self.padding, self.device = condition, grid, padding, device
        self.low = tuple(min(0, min(starts)) for starts in grid.starts[1:])
        self.around = [
            (-low, max(0, max(starts) + size - length))
            for low, starts, size, length in zip(
                self.low, grid.starts[1:], grid.window[1:], grid.shape[1:], strict=True
            )
        ]
        self.pads = (
            any(map(any, self.around)) or grid.starts[0][0] < 0 or grid.starts[0][-1] + grid.window[0] > grid.shape[0]
        )
        here = isinstance(condition, torch.Tensor) and condition.device == device
        self.moves = device.type != "cpu" and not here
        self.kept: torch.Tensor | None = None
        self.first = 0

    def between(self, start: int, stop: int) -> torch.Tensor:
        """The rows from `start` to `stop`, in ascending order from call to call; both may lie beyond the volume."""
        length = self.grid.shape[0]
        rows = self._on_device(max(start, 0), min(stop, length))
        around = [(max(0, -start), max(0, stop - length)), *self.around]
        return _pad(rows, around, self.padding) if any(map(any, around)) else rows

    def window(self, rows: torch.Tensor, row: int, y: int, x: int) -> torch.Tensor:
        """The window (C, z, y, x) whose corner is at that row of `rows`, and at (y, x) of the volume: a view."""
        depth, height, width = self.grid.window
        y, x = y - self.low[0], x - self.low[1]
        return rows[:, row : row + depth, y : y + height, x : x + width]

    def _on_device(self, start: int, stop: int) -> torch.Tensor:
        if not self.moves:
            return _float_rows(self.condition, start, stop).to(self.device)
        kept = self.kept
        held = start if kept is None else min(self.first + kept.shape[1], stop)
        parts = [] if kept is None else [kept[:, start - self.first : held - self.first]]
        if held < stop:
            new = _float_rows(self.condition, max(held, start), stop)
            pinned = new.pin_memory() if self.device.type == "cuda" else new
            parts.append(pinned.to(self.device, non_blocking=self.device.type == "cuda"))
        self.kept, self.first = torch.cat(parts, dim=1), start
        return self.kept


def _float_rows(condition: np.ndarray | torch.Tensor, start: int, stop: int) -> torch.Tensor:
    part = condition[:, start:stop]
    if isinstance(part, torch.Tensor):
        return part.float()
    usable = part.dtype == np.float32 and part.flags.writeable and min(part.strides) >= 0
    return torch.from_numpy(part if usable else np.array(part, dtype=np.float32))


def _pad(rows: torch.Tensor, around: Sequence[tuple[int, int]], padding: Sequence[float] | None) -> torch.Tensor:
    if padding is None:
        return functional.pad(rows, [n for pair in reversed(around) for n in pair], mode="replicate")
    shape = [n + low + high for n, (low, high) in zip(rows.shape[1:], around, strict=True)]
    padded = rows.new_empty((len(rows), *shape))
    for channel, value in zip(padded, padding, strict=True):
        channel.fill_(value)
    inner: Shape | tuple[slice, ...] = tuple(
        slice(low, low + n) for n, (low, _) in zip(rows.shape[1:], around, strict=True)
    )
    padded[(slice(None), *inner)] = rows
    return padded
