"""The flow rival: rectified flow from noise, or from the condition, to the target, given the condition."""

from __future__ import annotations

from typing import Literal

import torch

from gdmunet.sampler_spec import SamplerSpec
from gdmunet.training.trainers.stepwise import StepwiseTrainer


class FlowMatchingTrainer(StepwiseTrainer):
    """Conditional rectified flow: the velocity target - source along straight lines.

    Source: Liu et al., arXiv 2209.03003; Lipman et al., arXiv 2210.02747. The velocity of an estimate e of the target
    is (e - x_t) / (1 - t), so its squared error is that of the estimate over (1 - t)^2.
    """

    source: Literal["noise", "condition"] = "noise"
    source_channel: int = 0
    """Condition channel that the path starts from, where it starts from the condition."""
    solver: Literal["euler", "heun"] = "euler"

    @property
    def path(self) -> SamplerSpec:
        """Straight lines without noise."""
        return SamplerSpec(self.solver, self.steps, None if self.source == "noise" else self.source_channel)

    def time_weight(self, remaining: torch.Tensor) -> torch.Tensor:
        """Weight that makes the loss that of the velocity."""
        return remaining.square().reciprocal()
