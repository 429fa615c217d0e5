"""Encoders of the nnU-Net family: built by the package that trained them, filled with the encoder's weights alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.registry import BUILT_IN
from gdmunet.encoders.scaling import Window, rescale, standardize
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel


class ConvolutionalEncoder(FrozenEncoder):
    """The stages of a U-Net's encoder.

    Parameters
    ----------
    network
        Module that returns a list, one map per stage.
    channels
        Channels of every stage.
    strides
        Stride of every stage against the one before, along every axis of the network.
    orientation
        Axes of the network's arrays; see `FrozenEncoder`.
    clip
        Raw units that the input is clipped to; None: no clipping.
    mean, deviation
        Constants of the input (x - mean) / deviation; None: those of the target's body.
    """

    def __init__(
        self,
        network: nn.Module,
        units: VolumeUnits,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        *,
        orientation: str = "SPL",
        clip: Window | None = None,
        mean: float | None = None,
        deviation: float | None = None,
    ) -> None:
        dimensions = len(strides[0])
        order = _prepared_order(units, orientation) if dimensions == 3 else (0, 1)
        levels, total = [], [1] * dimensions
        for number, (width, stride) in enumerate(zip(channels, strides, strict=True)):
            total = [before * step for before, step in zip(total, stride, strict=True)]
            prepared = tuple(total[axis] for axis in order)
            levels.append(EncoderLevel(f"stage_{number}", int(width), prepared))
        super().__init__(levels, units, dimensions=dimensions, divisor=math.lcm(*total), orientation=orientation)
        self.network, self.window = network, clip
        self._mean, self._deviation = mean, deviation

    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """Clip, then z-score."""
        if self.window is not None:
            raw = raw.clamp(*self.window)
        if self._mean is None or self._deviation is None:
            return standardize(raw, self.units)
        return (raw - self._mean) / self._deviation

    def drop_behind(self, depth: int) -> None:
        """Stages behind the last level; networks of other packages have them under this name."""
        self.network.stages = cast("nn.Sequential", self.network.stages)[:depth]

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """One map per stage."""
        deepest = math.prod(volume.shape[2:]) // math.prod(self.levels[-1].stride)
        if deepest < 2:
            raise GdmError(
                "the patch is too small for this encoder: one place of the deepest map cannot be normalised",
                found=f"{tuple(volume.shape[2:])} voxels",
                expected=f"more than {self.levels[-1].stride}",
                remedy=f"choose an encoder with smaller strides, such as {BUILT_IN}",
            )
        maps: list[torch.Tensor] = self.network(volume)
        return maps


class RangeEncoder(ConvolutionalEncoder):
    """The same with the target's range mapped to 0..1."""

    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """The target's range to 0..1."""
        return rescale(raw, self.units.target.clip, 0.0, 1.0)


def _prepared_order(units: VolumeUnits, orientation: str) -> tuple[int, ...]:
    """For every prepared axis, the network's axis that is the same line in the patient."""
    lines = [next(number for number, pair in enumerate(("SI", "PA", "LR")) if letter in pair) for letter in orientation]
    return tuple(lines.index(axis) for axis in units.transpose)
