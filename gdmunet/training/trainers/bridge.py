"""The bridge rival: an image-to-image diffusion that starts at the condition and ends at the target."""

from __future__ import annotations

from typing import Literal

import torch

from gdmunet.sampler_spec import SamplerSpec
from gdmunet.training.trainers.stepwise import StepwiseTrainer


class BridgeTrainer(StepwiseTrainer):
    """Schroedinger bridge between paired images in the manner of I2SB (Liu et al., arXiv 2302.05872).

    Between a condition channel and the target lies a Brownian bridge: any noise schedule of I2SB is this bridge on
    another clock, so this one runs on the clock in which the noise is constant. Its network estimates (x_t - target)
    over the standard deviation from the target, which goes with (1 - t)^(1/2): the squared error is that of the
    estimate over 1 - t.
    """

    source_channel: int = 0
    """Condition channel that the bridge starts from."""
    noise: float = 0.3
    """Standard deviation of the bridge in network units; it is half of this at the middle of the way."""
    sampling: Literal["stochastic", "deterministic"] = "stochastic"
    """Deterministic: trained and drawn without noise, I2SB's limit of an ordinary differential equation."""

    @property
    def path(self) -> SamplerSpec:
        """A bridge with noise, or its mean."""
        if self.sampling == "deterministic":
            return SamplerSpec("bridge_deterministic", self.steps, self.source_channel)
        return SamplerSpec("bridge_stochastic", self.steps, self.source_channel, self.noise)

    def time_weight(self, remaining: torch.Tensor) -> torch.Tensor:
        """Weight that makes the loss that of the noise."""
        return remaining.reciprocal()
