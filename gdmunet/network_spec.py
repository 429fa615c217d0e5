"""The network in numbers, as plans and checkpoints store it: no class path, so a foreign one names no code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gdmunet.ranges import counted_as, require, within

# Weights of a network: 16 GB of them.
MOST_WEIGHTS = 4_000_000_000


@dataclass(frozen=True)
class NetworkSpec:
    """A U-Net in numbers. Lists run from the finest stage to the bottleneck; 2D nets have pairs.

    Attributes
    ----------
    block
        ``plain`` (convolution, norm, LeakyReLU) or ``residual`` encoder blocks.
    norm
        Normalisation layer after a convolution. Instance norm makes a prediction depend on where the windows lie.
    residual_channel
        Condition channel that is added to the output (network units), or None: the network then predicts a change.
    takes_state
        Whether it works step by step: its last two input channels are a sample's state and a plane of time, 0 to 1.
    dial_channels
        Channels of the convolutions that make the change towards realism; None: the network has no dial.
    """

    in_channels: int
    out_channels: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    block: Literal["plain", "residual"]
    norm: Literal["batch", "instance", "none"]
    residual_channel: int | None = None
    takes_state: bool = False
    dial_channels: int | None = None

    def __post_init__(self) -> None:
        stages = len(self.features)
        within("the number of stages", stages, 1, 12)
        within("the number of channels", (self.in_channels, self.out_channels), 1, 1024)
        for what, values in (("strides", self.strides), ("kernel sizes", self.kernel_sizes)):
            counted_as(what, values, stages)
            require(
                {len(v) for v in values} in ({2}, {3}), f"{what} are not those of 2D or 3D", values, "pairs, triples"
            )
            within(what, (n for v in values for n in v), 1, 16)
        counted_as("kernel sizes", self.kernel_sizes[0], self.dimensions)
        counted_as("encoder blocks", self.encoder_blocks, stages)
        counted_as("decoder blocks", self.decoder_blocks, stages - 1)
        within("the number of blocks", (*self.encoder_blocks, *self.decoder_blocks), 1, 64)
        within("the number of features", self.features, 1, 8192)
        within("the dial's channels", self.dial_channels, 1, 8192)
        within("the residual channel", self.residual_channel, 0, self.condition_channels - 1)
        within("the number of weights", self.weights_at_least, 0, MOST_WEIGHTS)

    @property
    def weights_at_least(self) -> int:
        """Weights of the encoder's convolutions that keep a stage's width: a lower bound of all."""
        sizes = zip(self.features, self.kernel_sizes, self.encoder_blocks, strict=True)
        return sum((blocks - 1) * width**2 * math.prod(kernel) for width, kernel, blocks in sizes)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def condition_channels(self) -> int:
        """Input channels that are the condition."""
        return self.in_channels - (2 if self.takes_state else 0)
