"""The least error over small shifts of the target: pairs that lie a voxel beside each other are not blurred for it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from gdmunet.ranges import within


@dataclass(frozen=True)
class ShiftOptions:
    """Shifts that are tried.

    Attributes
    ----------
    reach
        Largest shift in voxels along each axis; 0: none along it.
    window
        Edge in voxels of the blocks that share a shift.
    """

    reach: tuple[int, ...]
    window: int

    def __post_init__(self) -> None:
        within("the largest shift in voxels (shift_voxels)", self.reach, 0, 4)
        within("the blocks that share a shift, in voxels (shift_window)", self.window, 1, 64)

    def shifts(self) -> Iterator[tuple[int, ...]]:
        """Every shift, the shortest first: between equal errors the shorter shift is taken."""
        every = itertools.product(*(range(-most, most + 1) for most in self.reach))
        return iter(sorted(every, key=lambda shift: (sum(step * step for step in shift), shift)))


@torch.no_grad()
def best_shifted(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, options: ShiftOptions
) -> torch.Tensor:
    """The target (B, 1, ...), each block of it at the shift that brings it nearest to the prediction.

    Nearest by the mean of |prediction(u) - target(u + s)| over the body voxels u of the block whose partner u + s lies
    in the patch. Without blocks every voxel would choose the shift that flatters its own noise. One shift at a time is
    held in memory, whatever their number. A voxel whose partner would lie beyond the patch keeps its own.
    """
    least, chosen = None, target
    for shift in options.shifts():
        moved, partner = _shifted(target, shift)
        weight = mask * partner
        share = _blocks(weight, options.window)
        local = _blocks((prediction - moved).abs() * weight, options.window) / share
        # A block without partners has 0 / 0, which is not below the least.
        better = local < (math.inf if least is None else least)
        least = torch.where(better, local, math.inf if least is None else least)
        chosen = torch.where(_voxels(better, options.window, mask) & (partner > 0), moved, chosen)
    return chosen


def _shifted(target: torch.Tensor, shift: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The target at u + s for every u, and whether it lies in the patch (0 or 1)."""
    here, there = [slice(None)] * 2, [slice(None)] * 2
    for size, step in zip(target.shape[2:], shift, strict=True):
        here.append(slice(max(0, -step), size - max(0, step)))
        there.append(slice(max(0, step), size - max(0, -step)))
    moved, partner = target.clone(), torch.zeros_like(target)
    moved[tuple(here)] = target[tuple(there)]
    partner[tuple(here)] = 1
    return moved, partner


def _blocks(values: torch.Tensor, window: int) -> torch.Tensor:
    """Sums over blocks, divided by their volume; those at the end of an axis may be smaller."""
    pool: Any = functional.avg_pool3d if values.ndim == 5 else functional.avg_pool2d
    pooled: torch.Tensor = pool(values, window, ceil_mode=True)
    return pooled


def _voxels(blocks: torch.Tensor, window: int, image: torch.Tensor) -> torch.Tensor:
    """Every voxel with the value of its block."""
    for axis, size in enumerate(image.shape[2:], start=2):
        blocks = blocks.repeat_interleave(window, dim=axis).narrow(axis, 0, size)
    return blocks
