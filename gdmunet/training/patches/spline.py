"""Cubic B-spline interpolation by tensor operations alone, so that it runs on any device and waits for none.

Coefficients come from the inverse of the spline's sampling filter. On a GPU a value between voxels comes from 8 linear
reads (4 in 2D) instead of 64 single ones: Ruijters, ter Haar Romeny, Suetens, "Efficient GPU-based texture
interpolation using uniform B-splines", J. Graphics Tools 13(4), 2008. A CPU reads rows (`spline_rows.py`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from gdmunet.device import exact_float32
from gdmunet.training.patches.spline_rows import RowReader, cubic_weights

# Pole of the cubic B-spline's inverse filter (Unser 1999, "Splines: a perfect fit").
_POLE = math.sqrt(3) - 2


@exact_float32()
def spline_coefficients(values: torch.Tensor) -> torch.Tensor:
    """Coefficients of the cubic B-spline through `values` (C, z, y, x) or (C, y, x); edges are mirrored.

    Each axis is multiplied by the inverse filter's matrix, which is exact also at the edges; TF32 would round a CT
    by half a HU.
    """
    for axis in range(1, values.ndim):
        if values.shape[axis] > 1:
            matrix = _inverse_filter(values.shape[axis], values)
            if axis == values.ndim - 1:
                values = torch.matmul(values, matrix.T)
            else:
                values = torch.matmul(matrix, values.flatten(axis + 1)).reshape(values.shape)
    return values


def _inverse_filter(size: int, like: torch.Tensor) -> torch.Tensor:
    """(size, size): coefficients from samples that are mirrored at both ends, in closed form.

    The impulse response is sqrt(3) * pole^|k|. Mirrored samples have the period 2 (size - 1), over which the powers are
    summed; every sample but the two at the ends lies in it twice.
    """
    period = 2 * (size - 1)
    place = torch.arange(size, device=like.device)
    ends = (place == 0) | (place == size - 1)

    def response(distance: torch.Tensor) -> torch.Tensor:
        sign = 1.0 - 2.0 * (distance % 2)
        near, far = (torch.pow(-_POLE, power.to(like.dtype)) for power in (distance, period - distance))
        return sign * (near + far) * (math.sqrt(3) / (1 - _POLE**period))

    row, column = place[:, None], place[None, :]
    matrix = response((row - column).abs()) + response(row + column) * ~ends
    # Powers too small to matter are denormal numbers in float32, at which a CPU takes 15 times as long.
    return torch.where(matrix.abs() > 1e-16, matrix, 0.0)


def cubic_reader(coefficients: torch.Tensor) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    """What reads spline values between voxels.

    Parameters
    ----------
    coefficients
        (C, z, y, x) or (C, y, x) of `spline_coefficients`.

    Returns
    -------
    Callable
        Gives (C, *shape) for positions: a coordinate in voxels for each axis; their shapes broadcast to that of the
        result. All must lie at least one voxel inside the edge at the low end and two at the high end.
    """
    if coefficients.device.type == "cpu":
        return RowReader(coefficients)
    return functools.partial(read_by_linear_reads, coefficients)


def read_by_linear_reads(coefficients: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    """The way of a GPU to read spline values; shapes as for `cubic_reader`."""
    return _LinearReads(coefficients, positions).value()


def read_nearest(values: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    """The nearest voxel's value of (C, ...) at each position, (C, *shape); positions as for `cubic_reader`."""
    grid = _empty_grid(values, positions)
    for axis, (position, size) in enumerate(zip(positions, values.shape[1:], strict=True)):
        grid[..., -1 - axis] = _normalised(position, size)
    return functional.grid_sample(values[None], grid[None], mode="nearest", padding_mode="border", align_corners=True)[
        0
    ]


class _LinearReads:
    """One evaluation: along every axis two linear reads, blended by the weights of the B-spline's halves."""

    def __init__(self, coefficients: torch.Tensor, positions: Sequence[torch.Tensor]) -> None:
        self._coefficients = coefficients[None]
        self._grid = _empty_grid(coefficients, positions)
        halves = [_halves(position, size) for position, size in zip(positions, coefficients.shape[1:], strict=True)]
        self._places = [places for places, _ in halves]
        self._upper = [upper for _, upper in halves]
        self._side = [0] * len(halves)
        for axis in range(len(halves)):
            self._turn(axis, 0)

    def value(self, axis: int = 0) -> torch.Tensor:
        """The blend over `axis` and the ones behind it; leaves the axis on its other side, which saves a filling."""
        if axis == len(self._places):
            return functional.grid_sample(
                self._coefficients, self._grid[None], mode="bilinear", padding_mode="border", align_corners=True
            )[0]
        side = self._side[axis]
        first = self.value(axis + 1)
        self._turn(axis, 1 - side)
        second = self.value(axis + 1)
        low, high = (second, first) if side else (first, second)
        return low.lerp_(high, self._upper[axis].expand_as(low))

    def _turn(self, axis: int, side: int) -> None:
        self._side[axis] = side
        self._grid[..., -1 - axis] = self._places[axis][side]


def _empty_grid(values: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    shape = torch.broadcast_shapes(*(position.shape for position in positions))
    return torch.empty(*shape, len(positions), device=values.device, dtype=values.dtype)


def _normalised(position: torch.Tensor, size: int) -> torch.Tensor:
    """Voxels to -1 ... 1, as `grid_sample` counts with aligned corners."""
    return position * (2 / max(1, size - 1)) - 1


def _halves(position: torch.Tensor, size: int) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Places of the two linear reads along an axis, as `grid_sample` counts, and the weight of the upper one."""
    whole = position.floor()
    far_low, _, near_high, far_high = cubic_weights(position - whole)
    upper = near_high + far_high
    lower = 1 - upper
    low = whole - far_low / lower
    high = whole + 1 + far_high / upper
    return (_normalised(low, size), _normalised(high, size)), upper
