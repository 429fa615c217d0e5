"""The user's choices for plans; everything else follows from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gdmunet.device import Precision
from gdmunet.errors import GdmError
from gdmunet.model_names import check_name
from gdmunet.plan_names import PresetName, default_plans_name
from gdmunet.preprocessing.planned_drift import PlanDrift
from gdmunet.preprocessing.planned_encoder import ChooseEncoder
from gdmunet.preprocessing.planned_length import PlanLength
from gdmunet.preprocessing.planned_step import CountMemory
from gdmunet.preprocessing.presets import PRESETS, budget_gb

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")


@dataclass(frozen=True)
class PlanningOptions:
    """Network family, trainer and memory that plans are made for.

    Attributes
    ----------
    preset
        Network family.
    trainer, precision
        Trainer whose step must fit the memory, and the precision of its forward pass.
    footprint
        The trainer's prediction of the peak memory of a step.
    choose
        Function that chooses the frozen encoder for 2 or 3 dimensions; None: the plans have none.
    plan_drift
        Function that chooses the sizes of the drift beside an encoder; None: the plans have none.
    memory_budget_gb
        GB of 1e9 bytes that one training step may use; None: what the preset's card, or the free part of the GPU,
        leaves beside kernel workspaces and the device's own context.
    free_memory_gb
        Free memory of the GPU to plan for; None: no GPU is at hand.
    gpus
        GPUs that share every batch.
    name
        Name of the plans; None: the preset's own.
    configurations
        Some of ``2d``, ``3d_fullres``, ``3d_lowres``; None: all that make sense for the data.
    target_spacing
        Working voxel size in mm, canonical (z, y, x), instead of the planned one.
    accepted
        Names of checks of plausibility whose findings are accepted.
    splits
        File of the user's own folds; None: they are made by patient.
    length
        Function that chooses the length of a training; None: it is the trainer's own.
    chosen_because
        Reason of the preset, if planning chose it for the machine; None: the user named it.
    """

    preset: PresetName
    trainer: str
    precision: Precision
    footprint: CountMemory
    choose: ChooseEncoder | None = None
    plan_drift: PlanDrift | None = None
    memory_budget_gb: float | None = None
    free_memory_gb: float | None = None
    gpus: int = 1
    name: str | None = None
    configurations: tuple[str, ...] | None = None
    target_spacing: tuple[float, ...] | None = None
    accepted: tuple[str, ...] = ()
    splits: Path | None = None
    length: PlanLength | None = None
    chosen_because: str | None = None

    def __post_init__(self) -> None:
        check_name("plans", self.plans_name, "give another -overwrite_plans_name")
        unknown = [name for name in self.wanted if name not in CONFIGURATIONS]
        if unknown or not self.wanted:
            raise GdmError(
                f"unknown configuration {', '.join(unknown)}" if unknown else "no configuration was asked for",
                expected=f"any of {', '.join(CONFIGURATIONS)}",
                remedy="choose some of these with -c",
            )
        given = self.target_spacing
        if given is not None and (len(given) != 3 or not all(map(math.isfinite, given)) or min(given) <= 0):
            raise GdmError(
                "the target spacing is impossible",
                found=given,
                expected="three positive numbers in mm: z y x",
                remedy="correct -overwrite_target_spacing",
            )

    @property
    def wanted(self) -> tuple[str, ...]:
        """The configurations to plan."""
        return CONFIGURATIONS if self.configurations is None else self.configurations

    @property
    def plans_name(self) -> str:
        """Name of the plans."""
        return self.name or default_plans_name(self.preset)

    @property
    def budget_gb(self) -> float:
        """Memory of one training step in GB, on each GPU."""
        if self.memory_budget_gb is not None:
            return self.memory_budget_gb
        return budget_gb(PRESETS[self.preset], self.free_memory_gb)
