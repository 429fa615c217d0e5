"""Changes of a condition's intensities, on the device that the patch lies on.

How much is drawn on the CPU and passed to kernels as a plain number, so that nothing waits for the device. The
distributions are those of the batchgenerators transforms of nnU-Net.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from gdmunet.errors import GdmError
from gdmunet.training.draws import Draws

Range = tuple[float, float]


class PatchDraws:
    """The random numbers of one patch: a pure function of its seed, whatever process or device asks.

    Parameters
    ----------
    seed
        Seed of the patch.
    """

    def __init__(self, seed: int) -> None:
        self._numbers = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return bool(self._numbers.random() < probability)

    def uniform(self, bounds: Range) -> float:
        """A number between two others."""
        return float(self._numbers.uniform(*bounds))

    def factor(self, bounds: Range) -> float:
        """A factor within bounds about 1: smaller than 1 as often as greater."""
        low, high = bounds
        if low < 1 and self.chance(0.5):
            return self.uniform((low, 1))
        return self.uniform((max(low, 1), high))

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise of the shape and device of `like`; each kind of device has numbers of its own."""
        seed = int(self._numbers.integers(2**63))
        return Draws.seeded(seed, like.device).normal(like.shape, like.device)


@dataclass(frozen=True)
class IntensityTransform(ABC):
    """A change of the condition alone; target and mask stay as they are.

    Attributes
    ----------
    probability
        Share of the patches that are changed.
    """

    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise GdmError(
                "the probability of an intensity transform is a share",
                found=f"{type(self).__name__}({self.probability})",
                expected="0 to 1",
                remedy="give a number from 0 to 1",
            )

    @abstractmethod
    def change(self, condition: torch.Tensor, draws: PatchDraws) -> torch.Tensor:
        """The changed condition (C, ...), network units; the given tensor may be written over."""


@dataclass(frozen=True)
class Noise(IntensityTransform):
    """Gaussian noise, its standard deviation drawn from a range."""

    deviation: Range = (0.0, 0.05)

    def change(self, condition: torch.Tensor, draws: PatchDraws) -> torch.Tensor:
        """Add noise of one deviation to all channels."""
        deviation = draws.uniform(self.deviation)
        return condition.add_(draws.noise(condition), alpha=deviation)


@dataclass(frozen=True)
class Brightness(IntensityTransform):
    """A factor for each channel."""

    multiplier: Range = (0.8, 1.2)

    def change(self, condition: torch.Tensor, draws: PatchDraws) -> torch.Tensor:
        """Multiply each channel."""
        for channel in condition:
            channel.mul_(draws.uniform(self.multiplier))
        return condition


@dataclass(frozen=True)
class Contrast(IntensityTransform):
    """A factor about each channel's mean, within its lowest and highest value."""

    multiplier: Range = (0.8, 1.2)

    def change(self, condition: torch.Tensor, draws: PatchDraws) -> torch.Tensor:
        """Stretch or squeeze each channel about its mean."""
        for channel in condition:
            mean, low, high = channel.mean(), channel.min(), channel.max()
            channel.sub_(mean).mul_(draws.factor(self.multiplier)).add_(mean).clamp_(low, high)
        return condition


@dataclass(frozen=True)
class Gamma(IntensityTransform):
    """A power of each channel between its lowest and highest value, which then gets its mean and deviation back."""

    exponent: Range = (0.8, 1.25)

    def change(self, condition: torch.Tensor, draws: PatchDraws) -> torch.Tensor:
        """Bend each channel's scale."""
        for channel in condition:
            mean, deviation = channel.mean(), channel.std(correction=0)
            low = channel.min()
            extent = channel.max() - low + 1e-7
            channel.sub_(low).div_(extent).pow_(draws.factor(self.exponent)).mul_(extent)
            channel.sub_(channel.mean()).div_(channel.std(correction=0) + 1e-8).mul_(deviation).add_(mean)
        return condition


@dataclass(frozen=True)
class Blur(IntensityTransform):
    """A Gaussian blur of some channels; its width in voxels is drawn for each."""

    width: Range = (0.5, 1.0)
    channel_probability: float = 0.5

    def change(self, condition: torch.Tensor, draws: PatchDraws) -> torch.Tensor:
        """Blur the channels that chance picks."""
        for channel in condition:
            if draws.chance(self.channel_probability):
                channel.copy_(gaussian_blur(channel, draws.uniform(self.width)))
        return condition


@dataclass(frozen=True)
class LowResolution(IntensityTransform):
    """Some channels on a coarser grid (nearest voxel) and back (linear)."""

    zoom: Range = (0.6, 1.0)
    channel_probability: float = 0.5

    def change(self, condition: torch.Tensor, draws: PatchDraws) -> torch.Tensor:
        """Coarsen the channels that chance picks."""
        linear = "trilinear" if condition.ndim == 4 else "bilinear"
        for channel in condition:
            if draws.chance(self.channel_probability):
                zoom = draws.uniform(self.zoom)
                coarse = [max(1, round(size * zoom)) for size in channel.shape]
                small = functional.interpolate(channel[None, None], size=coarse, mode="nearest-exact")
                channel.copy_(functional.interpolate(small, size=channel.shape, mode=linear)[0, 0])
        return condition


def gaussian_blur(image: torch.Tensor, width: float) -> torch.Tensor:
    """Gaussian of that standard deviation in voxels, cut at four of it; edges are mirrored, as SciPy's."""
    radius = int(4 * width + 0.5)
    weights = [math.exp(-0.5 * (place / width) ** 2) for place in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis, size in enumerate(image.shape):
        place = torch.arange(-radius, size + radius, device=image.device) % (2 * size)
        padded = image.index_select(axis, torch.minimum(place, 2 * size - 1 - place))
        image = padded.narrow(axis, radius, size) * (weights[0] / total)
        for distance in range(1, radius + 1):
            for start in (radius - distance, radius + distance):
                image.add_(padded.narrow(axis, start, size), alpha=weights[distance] / total)
    return image


def mr_intensity() -> tuple[IntensityTransform, ...]:
    """Contrast changes, noise and blur for a z-scored MR-like condition, as nnU-Net's at half its strength."""
    return Noise(0.1), Blur(0.1), Brightness(0.15), Contrast(0.15), LowResolution(0.1), Gamma(0.2)


def hu_intensity() -> tuple[IntensityTransform, ...]:
    """Slight noise alone for a condition in HU: its values are calibrated, and a change would teach a wrong scale."""
    return (Noise(0.1, (0.0, 0.005)),)
