"""A step's predicted memory against that of the device, before training starts and when there is none left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import torch

from gdmunet import commands
from gdmunet.device_memory import DeviceMemory, MemoryAdvice, device_memory, explained_memory, memory_error
from gdmunet.errors import CommandLine
from gdmunet.plan_folder import unused_name
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.training import distributed
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.registry import named_trainers, nearest_named
from gdmunet.training.trainers.trainer import Trainer

# A device that has run out of memory at its predicted need gets plans for this share of it.
_LESS = 0.8


def check_memory(
    trainer: Trainer, data: FoldData, say: Callable[[str], None], memory: DeviceMemory | None = None
) -> None:
    """Refuse to train where a step has not enough memory; warn where it has no reserve.

    The memory of the plans' own trainer is as planned. Other trainers, several processes, and a step that seems not
    to fit are counted anew. A CPU is warned of alone: its system may move memory to a disk.

    Parameters
    ----------
    trainer
        Trainer before its first step, everything prepared.
    say
        Function that prints a warning.
    memory
        Memory of the trainer's device; None: asked of it.

    Raises
    ------
    GdmError
        A step needs more than is free; with numbers, and the command that plans for what is there.
    """
    device = trainer.device
    memory = memory or device_memory(device)
    needed = _needed(trainer, data, memory)
    if needed <= memory.usable:
        return
    advice = _advice("training", data, needed, memory.usable)
    name = f"a step of {type(trainer).__name__} with a patch of {data.configuration.patch_size}"
    if needed > memory.free and device.type != "cpu":
        raise memory_error(f"{name} needs more memory than is free on {device}", device, advice, memory)
    if distributed.rank() == 0:
        say(str(memory_error(f"{name} leaves no reserve of the memory of {device}", device, advice, memory)))


def explained_training(device: torch.device, data: FoldData) -> AbstractContextManager[None]:
    """Inside, a device that runs out of memory raises a `GdmError` that says how to train with less."""

    def advise() -> MemoryAdvice:
        needed = data.configuration.predicted_memory.total
        return _advice("training", data, needed, min(device_memory(device).usable, round(_LESS * needed)))

    return explained_memory(device, advise)


def _needed(trainer: Trainer, data: FoldData, memory: DeviceMemory) -> int:
    """Predicted bytes of a step of this process."""
    planned, processes = data.configuration.predicted_memory.total, distributed.world_size()
    kind = type(trainer)
    own = processes == 1 and nearest_named(kind).__name__ in data.plans.trainer.split(" and ")
    if planned <= memory.usable and (own or trainer.device.type == "cpu"):
        return planned
    share = replace(data.configuration, batch_size=data.configuration.batch_size // processes)
    precision = trainer.precision_on(trainer.device)
    step = PlannedStep(share, data.plans.dataset, precision, getattr(trainer, "encoder", None), processes)
    return StepMemory(kind)(step).total


def _advice(work: str, data: FoldData, needed: int, usable: int) -> MemoryAdvice:
    """The ways to less memory; plans for what is usable, if that is anything."""
    remedy = "end other programs on the device, or train with --set activation_checkpointing=true"
    if usable <= 0:
        return MemoryAdvice(work, needed, remedy)
    return MemoryAdvice(
        work, needed, f"{remedy}, or plan for less memory, and train with -p and that name", _planning_for(data, usable)
    )


def _planning_for(data: FoldData, usable: int) -> CommandLine:
    """The command that plans for that memory, under a new name: weights of these plans keep the plans they have."""
    plans = data.plans
    flags = ["-pl", plans.planner, "-gpu_memory_target", f"{usable / 1e9:.2g}"]
    trainer = plans.trainer.split(" and ")[0]
    if trainer in named_trainers():
        flags += ["-tr", trainer]
    flags += ["-overwrite_plans_name", unused_name(data.store.folder.parent, plans.name)]
    encoders = {c.encoder.spec for c in plans.configurations.values() if c.encoder is not None}
    if len(encoders) == 1:
        flags += ["-encoder", *encoders]
    return commands.plan_and_preprocess(plans.dataset_name, *flags)
