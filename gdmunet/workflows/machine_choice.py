"""What planning chooses for the machine at hand: the network family, and the length of a training."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gdmunet.device import usable_cores
from gdmunet.plan_names import PresetName
from gdmunet.preprocessing.operations import every_level
from gdmunet.preprocessing.planned_length import DAY_HOURS, PlanLength
from gdmunet.quantities import counted
from gdmunet.training.trainers.encoder import EncoderTrainer
from gdmunet.training.trainers.gdm import DriftTrainer
from gdmunet.training.trainers.planned_sizes import PlanDrift
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.requests.planning import PlanningRequest


@dataclass(frozen=True)
class MachineChoice:
    """A network family for a device.

    Attributes
    ----------
    because
        Reason of the family; None: the user named it, or it is that of every GPU.
    """

    preset: PresetName
    because: str | None = None

    @classmethod
    def of(cls, request: PlanningRequest, device: torch.device) -> MachineChoice:
        """The family that was asked for; else plain, or tiny if no GPU is at hand or planned for."""
        if request.planner is not None:
            return cls(request.planner)
        elsewhere = request.gpu_memory_target is not None or request.num_gpus > 1
        if device.type != "cpu":
            return cls("plain")
        if elsewhere:
            return cls("plain", "no GPU is at hand; the options plan for one elsewhere")
        cores = counted(usable_cores(), "CPU core")
        return cls(
            "tiny",
            f"training would run on {cores} without a GPU, where a step of the family plain takes minutes and a whole "
            "training months; to plan for a GPU elsewhere: -pl plain, or -gpu_memory_target GB",
        )

    def length(self, request: PlanningRequest, device: torch.device, kind: type[Trainer]) -> PlanLength:
        """What chooses the length of a training: the hours that were asked for; a day for tiny on a CPU."""
        hours = request.hours
        if hours is None and device.type == "cpu" and self.preset == "tiny":
            hours = DAY_HOURS
        used = kind.used_levels if issubclass(kind, EncoderTrainer) else every_level
        return PlanLength(
            device,
            kind.precision_on(device),
            used,
            kind.length(),
            hours,
            asked=request.hours is not None,
            drift=PlanDrift(kind) if issubclass(kind, DriftTrainer) else None,
        )
