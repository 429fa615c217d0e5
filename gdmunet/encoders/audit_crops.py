"""Pieces of volumes for the audit: a crop with room around it, and which of its cells hold something."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.encoders.fine import FINE_WINDOWS


def stride_read(stride: tuple[int, ...]) -> tuple[int, ...]:
    """Voxels between the places of a level as the audit reads it: windows at stride 1, cells elsewhere."""
    return tuple(FINE_WINDOWS[0] * step for step in stride) if max(stride) == 1 else stride


@dataclass(frozen=True)
class Block:
    """A piece of a volume with room around a crop for shifts.

    Attributes
    ----------
    values
        (1, 1, ...) network units.
    corner, size
        Corner and size of the crop inside it.
    """

    values: torch.Tensor
    corner: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def draw(cls, encoder: FrozenEncoder, volume: np.ndarray, window: int, rng: np.random.Generator) -> Block:
        """A random place of the volume that holds more than air."""
        array = np.asarray(volume, np.float32)
        if encoder.dimensions == 2:
            array = array[rng.integers(len(array) // 5, max(len(array) * 4 // 5, len(array) // 5 + 1))]
        deepest = max(max(stride_read(level.stride)) for level in encoder.levels)
        room = math.ceil(1.25 * deepest)
        unit = math.lcm(deepest, encoder.divisor)
        size = tuple(max(unit, min(window, n - 2 * room) // unit * unit) for n in array.shape)
        missing = [max(0, s + 2 * room - n) for s, n in zip(size, array.shape, strict=True)]
        array = np.pad(array, [(m // 2, m - m // 2) for m in missing], constant_values=encoder.units.network_background)
        deviation = 0.25 * array.std()
        for _ in range(20):
            low = [rng.integers(0, n - s - 2 * room + 1) for n, s in zip(array.shape, size, strict=True)]
            cut = array[tuple(slice(a, a + s + 2 * room) for a, s in zip(low, size, strict=True))]
            if cut[tuple(slice(room, room + s) for s in size)].std() > deviation:
                break
        return cls(torch.from_numpy(cut.copy())[None, None], (room,) * array.ndim, size)

    def crop(self, shift: tuple[int, ...] | None = None) -> torch.Tensor:
        """The crop, moved by `shift` voxels."""
        moved = shift or (0,) * len(self.size)
        corners = [corner + move for corner, move in zip(self.corner, moved, strict=True)]
        return self.values[
            (slice(None), slice(None), *(slice(c, c + s) for c, s in zip(corners, self.size, strict=True)))
        ]


def has_contrast(volume: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    """True for cells (flat) with more than a tenth of the crop's contrast: flat ones cannot be told apart."""
    pool = functional.avg_pool3d if volume.ndim == 5 else functional.avg_pool2d
    variance = pool(volume.square(), stride, ceil_mode=True) - pool(volume, stride, ceil_mode=True).square()
    return (variance > 0.01 * volume.var()).flatten()
