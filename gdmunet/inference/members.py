"""Several networks, or several views of one, as a single prediction: their mean, and how far they disagree."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gdmunet.inference.window_options import Network


@dataclass(frozen=True)
class SliceNetwork:
    """A 2D network (B, C, y, x) as one on windows that are a slice thick (B, C, 1, y, x)."""

    network: Network

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, C, 1, y, x) -> (B, 1, 1, y, x)."""
        return self.network(batch.squeeze(2)).unsqueeze(2)


def on_windows(networks: Sequence[Network], dimensions: int) -> list[Network]:
    """2D networks as 3D ones on windows; others as they are."""
    return [SliceNetwork(network) for network in networks] if dimensions == 2 else list(networks)


@dataclass(frozen=True)
class MeanNetwork:
    """The mean of several networks, window by window, summed in float32."""

    networks: tuple[Network, ...]

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, 1, z, y, x)."""
        total = self.networks[0](batch).float()
        for network in self.networks[1:]:
            total = total + network(batch).float()
        return total / len(self.networks)


@dataclass(frozen=True)
class FlippedNetwork:
    """A network that sees its window mirrored along `axes` (0..2) and answers the right way round."""

    network: Network
    axes: tuple[int, ...]

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, 1, z, y, x)."""
        dimensions = [axis + 2 for axis in self.axes]
        return self.network(batch.flip(dimensions)).flip(dimensions)


def flip_members(networks: Sequence[Network], mirror_axes: Sequence[int]) -> list[Network]:
    """Every network under every combination of flips."""
    flips = [flip for n in range(len(mirror_axes) + 1) for flip in itertools.combinations(mirror_axes, n)]
    return [FlippedNetwork(network, flip) if flip else network for network in networks for flip in flips]


def place(network: Network, device: torch.device, compiled: bool = False) -> Network:
    """Move a torch module to `device` in evaluation mode; any other callable stays as it is.

    On a GPU 3D weights lie with their channels last, as its fast convolutions read them. `compiled` hands a module to
    `torch.compile`, which takes a minute or so at its first window.
    """
    if not isinstance(network, nn.Module):
        return network
    network = network.to(device).eval()
    if device.type == "cuda":
        for parameter in network.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return torch.compile(network) if compiled else network


class RunningMoments:
    """Mean and standard deviation of volumes that come one by one (Welford), row by row: two volumes are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(0, dtype=np.float32)
        self._squares = np.zeros(0, dtype=np.float32)

    def add(self, volume: np.ndarray) -> None:
        """Take in one volume (z, y, x) float32; it may be kept and changed."""
        self.count += 1
        if self.count == 1:
            self.mean, self._squares = volume, np.zeros_like(volume)
            return
        for mean, squares, row in zip(self.mean, self._squares, volume, strict=True):
            difference = row - mean
            mean += difference / self.count
            squares += difference * (row - mean)

    def deviation(self) -> np.ndarray:
        """Standard deviation with the divisor n - 1; the sums are used up."""
        if self.count < 2:
            raise ValueError("a deviation needs two volumes")
        self._squares /= self.count - 1
        return np.sqrt(np.maximum(self._squares, 0, out=self._squares), out=self._squares)
