"""CT-FM (project-lighter): a residual encoder pretrained by contrast on 148,000 CT volumes.

A network of gdmunet with the key names of MONAI's ``SegResEncoder``, which the published weights fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.scaling import rescale
from gdmunet.encoders.weight_files import channels_of, fill, read_weights
from gdmunet.plans import EncoderLevel

_BLOCKS = (1, 2, 2, 4, 4)
_WINDOW = (-1024.0, 2048.0)  # HU to 0..1


class SegResNetwork(nn.Module):
    """Residual blocks before each strided convolution, which doubles the channels.

    Parameters
    ----------
    width
        Channels at full resolution, 32 in the published weights.
    blocks
        Residual blocks of each stage.
    """

    def __init__(self, width: int = 32, blocks: tuple[int, ...] = _BLOCKS) -> None:
        super().__init__()
        self.channels = tuple(width * 2**stage for stage in range(len(blocks)))
        self.conv_init = nn.Conv3d(1, width, 3, padding=1, bias=False)
        self.layers = nn.ModuleList(
            _Stage(channels, count, last=channels == self.channels[-1])
            for channels, count in zip(self.channels, blocks, strict=True)
        )

    def drop_behind(self, depth: int) -> None:
        """Keep the first `depth` stages."""
        self.layers = self.layers[:depth]
        cast("_Stage", self.layers[-1]).downsample = nn.Identity()

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, z, y, x) to one map per stage, stride 1, 2, 4, ..."""
        values, maps = self.conv_init(volume), []
        for stage in cast("list[_Stage]", list(self.layers)):
            maps.append(stage.blocks(values))
            values = stage.downsample(maps[-1])
        return maps


class _Stage(nn.Module):
    def __init__(self, channels: int, count: int, last: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(count)))
        self.downsample: nn.Module = nn.Identity()
        if not last:
            self.downsample = nn.Conv3d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)


class _Block(nn.Module):
    """Twice norm, ReLU, convolution; the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.conv1(functional.relu(self.norm1(values), inplace=True))
        change = self.conv2(functional.relu(self.norm2(change), inplace=True))
        return values + change


class CtFmEncoder(FrozenEncoder):
    """A `SegResNetwork` with its input scaling: HU -1024..2048 to 0..1; axes SPL, the prepared ones."""

    window = _WINDOW

    def __init__(self, network: SegResNetwork, units: VolumeUnits) -> None:
        levels = tuple(
            EncoderLevel(f"layer_{number}", channels, (2**number,) * 3)
            for number, channels in enumerate(network.channels)
        )
        super().__init__(levels, units, divisor=2 ** (len(levels) - 1), orientation="SPL")
        self.network = network

    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """HU to 0..1."""
        return rescale(raw, _WINDOW, 0.0, 1.0)

    def drop_behind(self, depth: int) -> None:
        """Stages behind the last level."""
        self.network.drop_behind(depth)

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """One map per stage."""
        maps: list[torch.Tensor] = self.network(volume)
        return maps


def build(file: Path | None, units: VolumeUnits, _dimensions: int, trust_checkpoint: bool = False) -> FrozenEncoder:
    """``ct-fm`` from ``model.safetensors``: 32 @ 1, 64 @ 2, 128 @ 4, 256 @ 8, 512 @ 16."""
    assert file is not None  # without a file nothing is built: `missing_weights`
    weights = read_weights(file, trust_checkpoint)
    # Weights of the fine-tuned segmentation network carry the encoder under a name of its own.
    prefix = "encoder." if "encoder.conv_init.weight" in weights else ""
    network = SegResNetwork(channels_of(weights, f"{prefix}conv_init.weight", file))
    fill(network, weights, file, prefix)
    return CtFmEncoder(network, units)


def outline(units: VolumeUnits) -> FrozenEncoder:
    """``ct-fm`` with weights of no meaning."""
    return CtFmEncoder(SegResNetwork(), units)
