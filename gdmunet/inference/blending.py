"""Weighted means of windows that come one by one: summed on the network's device, handed to the host when complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from gdmunet.errors import GdmError
from gdmunet.geometry import Shape, triple
from gdmunet.inference.windows import WindowGrid, inside, window_shares

# Place of a window in its grid: the index of its start along each axis.
Place = tuple[int, int, int]


class Blend:
    """The weighted mean of windows, a layer of the grid at a time.

    The windows of one start along axis 0 share its weights along that axis. So they are summed in a slab by their
    weights in the plane, and the slab enters the volume's sums with its weights along axis 0.

    Parameters
    ----------
    grid
        The windows.
    output
        (z, y, x) float32 that becomes the mean; what it holds before does not matter. A tensor on `device` takes the
        sums itself; one elsewhere gets each row when it is complete.
    background
        Value of windows that are filled.
    layer
        Largest number of starts along axis 0 in one layer.
    """

    def __init__(
        self, grid: WindowGrid, output: torch.Tensor, background: float, device: torch.device, layer: int = 1
    ) -> None:
        self.grid, self.background = grid, background
        self.z, self.y, self.x = (torch.from_numpy(shares).to(device) for shares in window_shares(grid))
        _, height, width = grid.shape
        self.slab = torch.empty((layer, min(grid.window[0], grid.shape[0]), height, width), device=device)
        self.sums: _Sums = _OwnSums(output) if output.device == device else _CarriedSums(output, device)
        self.first = 0  # the start along axis 0 that is number 0 of the slab

    def begin(self, starts: Sequence[int], filled: Sequence[Place]) -> None:
        """Begin a layer of these starts (indices); the `filled` windows of it hold the background."""
        self.first = starts[0]
        for number, start in enumerate(starts):
            columns = [place[1:] for place in filled if place[0] == start]
            if not columns:
                self.slab[number].zero_()
                continue
            # Filled windows differ from place to place in the plane alone.
            plane = self.slab.new_zeros(self.slab.shape[2:])
            for iy, ix in columns:
                _, rows, places = self._inside((start, iy, ix))
                plane[rows, places] += self._plane_weights((start, iy, ix))
            self.slab[number] = plane.mul_(self.background)

    def add(self, place: Place, prediction: torch.Tensor) -> None:
        """Add the prediction (z, y, x) of a window of this layer; what lies beyond the volume is dropped."""
        target = self._inside(place)
        corner = self._corner(place)
        z, y, x = (slice(t.start - c, t.stop - c) for t, c in zip(target, corner, strict=True))
        part = self.slab[place[0] - self.first][: z.stop - z.start, target[1], target[2]]
        part.addcmul_(prediction[z, y, x], self._plane_weights(place))

    def end(self, starts: Sequence[int], next_row: int) -> None:
        """End a layer; no later window reaches a row below `next_row`."""
        for number, start in enumerate(starts):
            rows = self._inside((start, 0, 0))[0]
            first = rows.start - self.grid.starts[0][start]
            count = rows.stop - rows.start
            self.sums.add(rows.start, self.slab[number, :count], self.z[start, first : first + count, None, None])
        self.sums.finish(next_row)

    def close(self) -> None:
        """Wait until the output is whole.

        Raises
        ------
        GdmError
            A value is not a number; also raised earlier, by `end`.
        """
        self.sums.close()

    def _corner(self, place: Place) -> Shape:
        return triple(starts[index] for starts, index in zip(self.grid.starts, place, strict=True))

    def _inside(self, place: Place) -> tuple[slice, slice, slice]:
        return inside(self._corner(place), self.grid.window, self.grid.shape)

    def _plane_weights(self, place: Place) -> torch.Tensor:
        _, y, x = (
            slice(t.start - c, t.stop - c) for t, c in zip(self._inside(place), self._corner(place), strict=True)
        )
        return self.y[place[1], y, None] * self.x[place[2], x]


class _Sums(Protocol):
    """Sums (z, y, x) that grow by slabs, and whose rows are complete in order."""

    def add(self, first: int, slab: torch.Tensor, shares: torch.Tensor) -> None:
        """Add `slab` times `shares` to the rows from `first` on."""

    def finish(self, row: int) -> None:
        """Take the rows below `row` as complete."""

    def close(self) -> None:
        """Wait for what is under way."""


class _OwnSums(_Sums):
    """Sums in the output itself."""

    def __init__(self, output: torch.Tensor) -> None:
        self.output, self.filled, self.done = output, 0, 0
        self.totals: list[torch.Tensor] = []

    def add(self, first: int, slab: torch.Tensor, shares: torch.Tensor) -> None:
        self.filled = _add(self.output[first : first + len(slab)], self.filled - first, slab, shares) + first

    def finish(self, row: int) -> None:
        if row <= self.done:
            return
        rows = self.output[self.done : row]
        if rows.device.type == "cpu":
            _check_finite(rows, self.done)
        else:  # asking at once would wait for the device
            self.totals.append(rows.sum())
        self.done = row

    def close(self) -> None:
        if self.totals and not torch.stack(self.totals).isfinite().all():
            _check_finite(self.output, 0)


@dataclass(frozen=True)
class _Copy:
    """Rows on their way to the host, from `first` on; the event tells when they are there (None: they are)."""

    first: int
    rows: torch.Tensor
    event: torch.cuda.Event | None


class _CarriedSums(_Sums):
    """Sums of the rows in work alone, on a device; complete rows are copied to an output elsewhere.

    A copy runs while the device computes on, and is put into the output when the next one begins.
    """

    def __init__(self, output: torch.Tensor, device: torch.device) -> None:
        self.output, self.filled, self.first, self.device = output, 0, 0, device
        self.slab = torch.empty((0, *output.shape[1:]), device=device)
        self.copy: _Copy | None = None

    def add(self, first: int, slab: torch.Tensor, shares: torch.Tensor) -> None:
        missing = first + len(slab) - self.first - len(self.slab)
        if missing > 0:
            self.slab = torch.cat([self.slab, self.slab.new_empty((missing, *self.slab.shape[1:]))])
        rows = self.slab[first - self.first : first - self.first + len(slab)]
        self.filled = _add(rows, self.filled - first, slab, shares) + first

    def finish(self, row: int) -> None:
        if row <= self.first:
            return
        complete, self.slab = self.slab[: row - self.first], self.slab[row - self.first :].clone()
        self.close()
        host = torch.empty(complete.shape, pin_memory=self.device.type == "cuda")
        host.copy_(complete, non_blocking=self.device.type == "cuda")
        event = torch.cuda.Event() if self.device.type == "cuda" else None
        if event is not None:
            event.record(torch.cuda.current_stream(self.device))
        self.copy, self.first = _Copy(self.first, host, event), row

    def close(self) -> None:
        if self.copy is None:
            return
        copy, self.copy = self.copy, None
        if copy.event is not None:
            copy.event.synchronize()
        _check_finite(copy.rows, copy.first)
        self.output[copy.first : copy.first + len(copy.rows)] = copy.rows


def _add(rows: torch.Tensor, filled: int, slab: torch.Tensor, shares: torch.Tensor) -> int:
    """Add to the first `filled` of these rows and write the others; returns the number of rows that hold sums then."""
    old = min(max(filled, 0), len(rows))
    if old:
        rows[:old].addcmul_(slab[:old], shares[:old])
    if old < len(rows):
        torch.mul(slab[old:], shares[old:], out=rows[old:])
    return max(filled, len(rows))


def _check_finite(rows: torch.Tensor, first: int) -> None:
    # One number that is not finite makes the sum not finite; finite ones may have a sum that is too large.
    if bool(rows.sum().isfinite()):
        return
    for number, values in enumerate(rows):
        wrong = values.numel() - int(np.count_nonzero(values.isfinite().cpu().numpy()))
        if wrong:
            raise GdmError(
                "the network gave values that are not numbers",
                found=f"{wrong} of {values.numel()} voxels in row {first + number}",
                expected="finite values",
                remedy="predict in float32, or choose another checkpoint",
            )
