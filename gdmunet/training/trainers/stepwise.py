"""The shared part of rivals of several steps: a path from a source to the target, which the network estimates."""

from __future__ import annotations

import dataclasses
import functools
from abc import abstractmethod
from typing import Any

import torch

from gdmunet.composition import compose
from gdmunet.errors import GdmError
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import stepwise_input
from gdmunet.quantities import counted
from gdmunet.sampler_spec import SamplerSpec
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.fidelity import masked_mean
from gdmunet.training.trainers.step import Generated, Terms
from gdmunet.training.trainers.trainer import Trainer


class StepwiseTrainer(Trainer):
    """Estimates the target from the condition and a state x_t = (1 - t) source + t target + noise sqrt(t (1 - t)) z.

    The network gives the target rather than a velocity or a noise: the same information (given x_t one follows from
    the other), but predictions can be blended, masked and started from a condition like those of other trainers. The
    loss is that of the velocity or noise all the same, by a weight that depends on the time (Li and He,
    arXiv 2511.13720).

    A subclass defines `sampler`, which says source and noise of the path, and `time_weight`.
    """

    steps: int = 10
    """Steps of a prediction; gdm_predict --steps takes others."""
    last_time: float = 0.95
    """Weights grow without bound towards the end of the path: they stay as they are from here on."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        channel = self.path.source_channel
        if channel is not None and not 0 <= channel < self.configuration.network.in_channels:
            raise GdmError(
                "the source of the path is not a condition channel",
                found=f"source_channel={channel}",
                expected=f"0 to {self.configuration.network.in_channels - 1}",
                remedy="choose a channel that is there",
            )

    # ---- what a subclass writes --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def path(self) -> SamplerSpec:
        """The sampler, and with it source and noise of the path."""

    @abstractmethod
    def time_weight(self, remaining: torch.Tensor) -> torch.Tensor:
        """Weight of the squared error at the times 1 - `remaining` (B,)."""

    # ---- the rest ----------------------------------------------------------------------------------------------

    @property
    def sampler(self) -> SamplerSpec:
        """The settings of the path."""
        return self.path

    @property
    def network_spec(self) -> NetworkSpec:
        """The planned network with a state and a time among its inputs."""
        return stepwise_spec(self.configuration.network)

    def description(self) -> str:
        """Text about the drawing of predictions."""
        path = self.path
        source = "noise" if path.source_channel is None else f"condition channel {path.source_channel}"
        passes = f"{path.name}, {counted(path.passes, 'pass')}"
        return f"drawn in {counted(path.steps, 'step')} ({passes}) from {source}, noise {path.noise:g}"

    def generate(self, batch: Batch) -> Generated:
        """Estimate of the target at random times of the path, (B,), which the losses find in ``context["time"]``."""
        draws = self.step.draws
        times = draws.uniform((len(batch.mask),), self.device)
        target = compose(batch.target, batch.mask, self.units.network_background)
        path, time = self.path, times.reshape(-1, *[1] * (target.ndim - 1))
        channel = path.source_channel
        noise = functools.partial(draws.normal, target.shape, self.device)
        source = noise() if channel is None else batch.condition[:, channel : channel + 1]
        state = torch.lerp(source, target, time)
        if path.noise:
            state += path.noise * (time * (1 - time)).sqrt() * noise()
        return Generated(self.step.network(stepwise_input(batch.condition, state, times)), {"time": times})

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """Weighted squared error in the body."""
        weight = self.time_weight((1 - batch.context["time"]).clamp(min=1 - self.last_time))
        error = (prediction - batch.target).square() * weight.reshape(-1, *[1] * (prediction.ndim - 1))
        return {"path": masked_mean(error, batch.mask)}


def stepwise_spec(planned: NetworkSpec) -> NetworkSpec:
    """The planned network with a state and a plane of its time as two more input channels.

    Instance norm becomes batch norm, since it would remove a plane that is constant within a patch, and so the time.
    """
    norm = "batch" if planned.norm == "instance" else planned.norm
    return dataclasses.replace(planned, in_channels=planned.in_channels + 2, norm=norm, takes_state=True)
