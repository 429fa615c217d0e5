"""The base of every frozen encoder: a differentiable map from the generator's output to feature maps.

The generator's output is in network units on the prepared grid. The encoder itself maps these to its
input: units, window, axis order, padding. Its weights never get a gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional

from gdmunet.hounsfield import is_hounsfield
from gdmunet.plans import Configuration, EncoderLevel, NormalizationSpec


@dataclass(frozen=True)
class FeatureMap:
    """One level of an encoder.

    Attributes
    ----------
    level
        Name.
    values
        (B, C, z, y, x), or (B, C, y, x) in 2D; location i covers the patch's voxels from i * stride on.
    stride
        Voxels along every axis.
    """

    level: str
    values: torch.Tensor
    stride: tuple[int, ...]


@dataclass(frozen=True)
class VolumeUnits:
    """Meaning of the values and axes of a generated patch.

    Attributes
    ----------
    target
        The target's normalisation (``affine``): raw = value * scale + offset.
    background
        Value outside the body, raw units.
    modality
        Word of the target, such as ``CT`` or ``T1``.
    transpose
        Prepared axis i is canonical (S, P, L) axis ``transpose[i]``.
    """

    target: NormalizationSpec
    background: float
    modality: str
    transpose: tuple[int, int, int] = (0, 1, 2)

    @classmethod
    def of(cls, configuration: Configuration, modality: str) -> Self:
        """The units of a configuration's target."""
        return cls(configuration.target_normalization, configuration.background, modality, configuration.transpose)

    def to_raw(self, volume: torch.Tensor) -> torch.Tensor:
        """Network units to raw units (HU for CT)."""
        return volume * self.target.scale + self.target.offset

    @property
    def hounsfield(self) -> bool:
        """Whether raw units are Hounsfield units."""
        return is_hounsfield(self.modality)

    @property
    def network_background(self) -> float:
        """The background in network units."""
        return (self.background - self.target.offset) / self.target.scale


class FrozenEncoder(nn.Module, ABC):
    """Base of all encoders. A subclass defines `scale` and `features`.

    Parameters
    ----------
    levels
        Levels that `features` returns, in this order: that of their computation. An encoder's run from fine to coarse;
        those of a decoder, if there is one, follow and run back to the finest.
    units
        Units of the volumes that come in.
    dimensions
        2 or 3.
    divisor
        Input sizes along every axis are padded (with background, at the far end) to multiples of it.
    orientation
        Axes that the encoder was trained on, first array axis first, each towards its growing index: ``SPL`` is the
        prepared one, ``RAS`` stands for arrays (x, y, z). Feature maps come back in prepared axes. Ignored in 2D.

    Attributes
    ----------
    window
        Raw intensities that it sees, lowest and highest, for plans.json; None: all.
    licence
        Licence of its weights, if the table of encoders does not say it.
    """

    window: tuple[float, float] | None = None
    licence: str = "not stated"

    def __init__(
        self,
        levels: Sequence[EncoderLevel],
        units: VolumeUnits,
        *,
        dimensions: int = 3,
        divisor: int = 1,
        orientation: str = "SPL",
    ) -> None:
        super().__init__()
        self.levels, self.units = tuple(levels), units
        self.dimensions, self.divisor, self.orientation = dimensions, divisor, orientation
        self._every_level = len(self.levels)

    @abstractmethod
    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw units to the encoder's own input values, differentiable; (B, 1, ...) to the same shape."""

    @abstractmethod
    def features(self, volume: torch.Tensor) -> Sequence[torch.Tensor]:
        """One map per level from the encoder's own input (B, 1, ...), in the encoder's axes."""

    def drop_behind(self, depth: int) -> None:
        """Let go of what only levels behind the first `depth` need: `features` then gives `depth` maps.

        By default nothing is dropped, and the further maps are computed and left out.
        """

    def stop_after(self, levels: Sequence[EncoderLevel]) -> Self:
        """Compute no level behind the last of `levels`. The maps that are left are the same, bit for bit.

        Raises
        ------
        ValueError
            The encoder does not have one of the levels.
        """
        depth = 1 + max(self.levels.index(level) for level in levels)
        if depth < len(self.levels):
            self.levels = self.levels[:depth]
            self.drop_behind(depth)
        return self

    def forward(self, volume: torch.Tensor) -> tuple[FeatureMap, ...]:
        """Feature maps of a volume (B, 1, ...) in network units, in the order of `levels`."""
        shape = tuple(volume.shape[2:])
        padding = [(-n) % self.divisor for n in shape]
        if any(padding):
            pads = [p for n in reversed(padding) for p in (0, n)]
            volume = functional.pad(volume, pads, value=self.units.network_background)
        order, flips = self._axes()
        moved = volume.permute(0, 1, *(2 + i for i in order))
        maps = self.features(self.scale(self.units.to_raw(moved.flip(flips) if flips else moved)))
        if len(maps) == self._every_level:
            maps = maps[: len(self.levels)]
        feature_maps = []
        for level, values in zip(self.levels, maps, strict=True):
            back = (values.flip(flips) if flips else values).permute(
                0, 1, *(2 + order.index(i) for i in range(len(order)))
            )
            kept = tuple(slice(0, -(-n // s)) for n, s in zip(shape, level.stride, strict=True))
            feature_maps.append(FeatureMap(level.name, back[(slice(None), slice(None), *kept)], level.stride))
        return tuple(feature_maps)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a frozen encoder has no other."""
        del mode
        return super().train(False)

    def freeze(self) -> Self:
        """No gradient to any weight; evaluation mode."""
        return self.requires_grad_(False).eval()

    def _axes(self) -> tuple[list[int], list[int]]:
        """Order of the prepared axes for the encoder, and the axes (of the permuted tensor) to flip."""
        if self.dimensions == 2:
            return [0, 1], []
        pairs = [{"S", "I"}, {"P", "A"}, {"L", "R"}]
        prepared = ["SPL"[axis] for axis in self.units.transpose]
        order, flips = [], []
        for place, letter in enumerate(self.orientation):
            pair = next(p for p in pairs if letter in p)
            axis = next(i for i, own in enumerate(prepared) if own in pair)
            order.append(axis)
            if prepared[axis] != letter:
                flips.append(2 + place)
        return order, flips
