"""MedicalNet (Tencent): 3D ResNets pretrained by segmentation of 23 data sets of CT and MR.

A network of gdmunet with the published key names. It was trained with dilated layers 3 and 4 at stride 8; classes of
the same name elsewhere (MONAI's) have strides 16 and 32 there, with which the weights were never trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.scaling import standardize
from gdmunet.encoders.weight_files import fill, read_weights
from gdmunet.plans import EncoderLevel

# Channels inside a block, stride and dilation of layers 1 to 4.
_LAYERS = ((64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4))
_STRIDES = (2, 4, 8, 8, 8)


class MedicalNetwork(nn.Module):
    """A 3D ResNet: a 7^3 convolution and max pooling, then four layers of residual blocks.

    Parameters
    ----------
    blocks
        Blocks of each layer.
    bottleneck
        Blocks of three convolutions (ResNet-50) instead of two (ResNet-10).
    """

    def __init__(self, blocks: tuple[int, ...], bottleneck: bool) -> None:
        super().__init__()
        kind, growth = (_Bottleneck, 4) if bottleneck else (_Basic, 1)
        self.channels: tuple[int, ...] = (64, *(inside * growth for inside, _, _ in _LAYERS))
        self.conv1, self.bn1 = nn.Conv3d(1, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm3d(64)
        for number, (inside, stride, dilation) in enumerate(_LAYERS):
            before, after = self.channels[number], self.channels[number + 1]
            layer = [kind(before, inside, after, stride, dilation)]
            layer += [kind(after, inside, after, 1, dilation) for _ in range(blocks[number] - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*layer))

    def drop_behind(self, depth: int) -> None:
        """Keep the stem and the layers of the first `depth` levels."""
        for number in range(depth, len(self.channels)):
            delattr(self, f"layer{number}")
        self.channels = self.channels[:depth]

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, z, y, x) to five maps at strides 2, 4, 8, 8, 8."""
        maps = [functional.relu(self.bn1(self.conv1(volume)))]
        if len(self.channels) == 1:
            return maps
        values = functional.max_pool3d(maps[0], 3, stride=2, padding=1)
        for number in range(1, len(self.channels)):
            values = self.get_submodule(f"layer{number}")(values)
            maps.append(values)
        return maps


class _Residual(nn.Module, ABC):
    """A block's branch is added to its input, which passes a 1 x 1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        changes = stride != 1 or before != after
        self.downsample = (
            nn.Sequential(nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.BatchNorm3d(after))
            if changes
            else None
        )

    @abstractmethod
    def branch(self, values: torch.Tensor) -> torch.Tensor: ...

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        kept = values if self.downsample is None else self.downsample(values)
        return functional.relu(self.branch(values) + kept)


class _Basic(_Residual):
    def __init__(self, before: int, inside: int, after: int, stride: int, dilation: int) -> None:
        super().__init__(before, after, stride)
        self.conv1, self.bn1 = _conv3(before, inside, stride, dilation), nn.BatchNorm3d(inside)
        self.conv2, self.bn2 = _conv3(inside, after, 1, dilation), nn.BatchNorm3d(after)

    def branch(self, values: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(values)))))
        return change


class _Bottleneck(_Residual):
    def __init__(self, before: int, inside: int, after: int, stride: int, dilation: int) -> None:
        super().__init__(before, after, stride)
        self.conv1, self.bn1 = nn.Conv3d(before, inside, 1, bias=False), nn.BatchNorm3d(inside)
        self.conv2, self.bn2 = _conv3(inside, inside, stride, dilation), nn.BatchNorm3d(inside)
        self.conv3, self.bn3 = nn.Conv3d(inside, after, 1, bias=False), nn.BatchNorm3d(after)

    def branch(self, values: torch.Tensor) -> torch.Tensor:
        narrow = functional.relu(self.bn1(self.conv1(values)))
        change: torch.Tensor = self.bn3(self.conv3(functional.relu(self.bn2(self.conv2(narrow)))))
        return change


def _conv3(before: int, after: int, stride: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(before, after, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)


class MedicalNetEncoder(FrozenEncoder):
    """A `MedicalNetwork` with its input scaling: z-score by the body's mean and SD; axes as in the files, here SPL.

    The original scales by the statistics of each volume's positive voxels, and fills zeros with noise; the
    constants of the plans take their place, and the background stays what it is.
    """

    def __init__(self, network: MedicalNetwork, units: VolumeUnits) -> None:
        names = ("stem", "layer_1", "layer_2", "layer_3", "layer_4")
        levels = tuple(
            EncoderLevel(name, channels, (stride,) * 3)
            for name, channels, stride in zip(names, network.channels, _STRIDES, strict=True)
        )
        super().__init__(levels, units, divisor=8)
        self.network = network

    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw units to z-scores."""
        return standardize(raw, self.units)

    def drop_behind(self, depth: int) -> None:
        """Layers behind the last level."""
        self.network.drop_behind(depth)

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Five maps."""
        maps: list[torch.Tensor] = self.network(volume)
        return maps


def build_10(file: Path | None, units: VolumeUnits, _dimensions: int, trust_checkpoint: bool = False) -> FrozenEncoder:
    """``medicalnet-10`` from ``resnet_10_23dataset.pth``: 64 @ 2, 64 @ 4, 128 @ 8, 256 @ 8, 512 @ 8."""
    return _build(file, units, _network_10(), trust_checkpoint)


def build_50(file: Path | None, units: VolumeUnits, _dimensions: int, trust_checkpoint: bool = False) -> FrozenEncoder:
    """``medicalnet-50`` from ``resnet_50_23dataset.pth``: 64 @ 2, 256 @ 4, 512 @ 8, 1024 @ 8, 2048 @ 8."""
    return _build(file, units, _network_50(), trust_checkpoint)


def outline_10(units: VolumeUnits) -> FrozenEncoder:
    """``medicalnet-10`` with weights of no meaning."""
    return MedicalNetEncoder(_network_10(), units)


def outline_50(units: VolumeUnits) -> FrozenEncoder:
    """``medicalnet-50`` with weights of no meaning."""
    return MedicalNetEncoder(_network_50(), units)


def _network_10() -> MedicalNetwork:
    return MedicalNetwork((1, 1, 1, 1), bottleneck=False)


def _network_50() -> MedicalNetwork:
    return MedicalNetwork((3, 4, 6, 3), bottleneck=True)


def _build(file: Path | None, units: VolumeUnits, network: MedicalNetwork, trust_checkpoint: bool) -> FrozenEncoder:
    assert file is not None  # without a file nothing is built: `missing_weights`
    fill(network, read_weights(file, trust_checkpoint), file)
    return MedicalNetEncoder(network, units)
