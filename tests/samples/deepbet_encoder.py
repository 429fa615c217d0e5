"""An encoder of one's own from published weights: deepbet's network for T1 MR (MIT), as ``file.py:factory``."""

import torch
from torch import nn
from torch.nn import functional

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import EncoderLevel

CHANNELS, STRIDES = (16, 16, 32, 64, 128), (4, 4, 8, 16, 32)


class Group(nn.Module):
    """Two residual blocks of two convolutions each; no norm has weights."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.block1, self.block2 = Block(before, after, stride), Block(after, after, 1)

    def forward(self, values):
        return self.block2(self.block1(values))


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv3d(before, after, 3, stride, 1, bias=False), nn.InstanceNorm3d(after), nn.ReLU(),
            nn.Conv3d(after, after, 3, 1, 1, bias=False), nn.InstanceNorm3d(after),
        )  # fmt: skip
        self.downsample = None
        if before != after or stride != 1:
            self.downsample = nn.Sequential(nn.Conv3d(before, after, 1, stride, bias=False), nn.InstanceNorm3d(after))

    def forward(self, values):
        kept = values if self.downsample is None else self.downsample(values)
        return functional.relu(self.double_conv(values) + kept)


class DeepBet(FrozenEncoder):
    licence = "MIT"

    def __init__(self, units):
        levels = [EncoderLevel(f"down{n}", c, (s,) * 3) for n, (c, s) in enumerate(zip(CHANNELS, STRIDES, strict=True))]
        super().__init__(levels, units, divisor=32, orientation="RAS")
        self.window = units.target.clip
        self.init = nn.Sequential(nn.Conv3d(1, 16, 7, 2, 3, bias=False), nn.InstanceNorm3d(16), nn.ReLU())
        self.down0, self.down1 = Group(16, 16, 1), Group(16, 32, 2)
        self.down2, self.down3 = Group(32, 64, 2), Group(64, 128, 2)

    def scale(self, raw):
        low, high = self.window
        # Clipped, z-scored by the body's statistics, then to the mean and SD of natural images.
        return (raw.clamp(low, high) - self.units.target.offset) / self.units.target.scale * 0.226 + 0.449

    def features(self, volume):
        maps = [functional.max_pool3d(self.init(volume), 3, 2, 1)]
        for group in (self.down0, self.down1, self.down2, self.down3):
            maps.append(group(maps[-1]))
        return maps


def factory(file, units, _dimensions, _trust_checkpoint):
    published = torch.jit.load(str(file), map_location="cpu").state_dict()
    encoder = DeepBet(units)
    encoder.load_state_dict({name: published[name] for name in encoder.state_dict()})
    return encoder
