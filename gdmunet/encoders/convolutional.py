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
from gdmunet.plans import DECODER_LEVEL, EncoderLevel


class EncoderAndDecoder(nn.Module):
    """A U-Net up to its segmentation heads: the encoder's maps from fine to coarse, then the decoder's back again.

    Parameters
    ----------
    encoder
        Module with `stages` that returns a list, one map per stage.
    rises
        Transposed convolutions to the resolution of the next finer stage, coarsest first.
    merges
        Blocks that join each risen map with the encoder's map of the same resolution.
    """

    def __init__(self, encoder: nn.Module, rises: nn.ModuleList, merges: nn.ModuleList) -> None:
        super().__init__()
        self.encoder, self.rises, self.merges = encoder, rises, merges

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, ...) to one map per stage of the encoder, and one per stage of the decoder."""
        maps: list[torch.Tensor] = list(self.encoder(volume))
        skips, values = maps[-2::-1], maps[-1]
        # Stages behind the last level that is wanted are gone.
        for rise, merge, skip in zip(self.rises, self.merges, skips, strict=False):
            values = merge(torch.cat((rise(values), skip), 1))
            maps.append(values)
        return maps

    def drop_behind(self, depth: int) -> None:
        """Keep what the first `depth` maps need."""
        stages = cast("nn.Sequential", self.encoder.stages)
        decoded = max(0, depth - len(stages))
        self.rises, self.merges = self.rises[:decoded], self.merges[:decoded]
        self.encoder.stages = stages[:depth]


class ConvolutionalEncoder(FrozenEncoder):
    """The stages of a U-Net's encoder, and those of its decoder if the network has one.

    Parameters
    ----------
    network
        Module that returns a list, one map per stage; of an `EncoderAndDecoder` those of the decoder, too.
    channels
        Channels of every stage of the encoder.
    strides
        Stride of every one against the stage before, along every axis of the network.
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
        if isinstance(network, EncoderAndDecoder):
            # A stage of the decoder has number, width and stride of the encoder's stage that it is merged with.
            levels += [
                EncoderLevel(f"{DECODER_LEVEL}{number}", levels[number].channels, levels[number].stride)
                for number in reversed(range(len(levels) - 1))
            ]
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
        if isinstance(self.network, EncoderAndDecoder):
            self.network.drop_behind(depth)
            return
        self.network.stages = cast("nn.Sequential", self.network.stages)[:depth]

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """One map per stage."""
        coarsest = max((level.stride for level in self.levels), key=math.prod)
        deepest = math.prod(volume.shape[2:]) // math.prod(coarsest)
        if deepest < 2:
            raise GdmError(
                "the patch is too small for this encoder: one place of the deepest map cannot be normalised",
                found=f"{tuple(volume.shape[2:])} voxels",
                expected=f"more than {coarsest}",
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
