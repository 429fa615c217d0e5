"""A loop from a trainer's class and the user's folders."""

from __future__ import annotations

import functools

import torch

from gdmunet import commands
from gdmunet.consents import read_consents
from gdmunet.encoders.choice import AUTO
from gdmunet.encoders.loading import load_encoder
from gdmunet.encoders.registry import FAMILIES, SEGMENTER
from gdmunet.errors import COMMAND, GdmError
from gdmunet.paths import Folders
from gdmunet.plan_names import planning_flags
from gdmunet.results import FoldFolder, ResultsFolder
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.memory_check import explained_training
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.planned_sizes import as_planned
from gdmunet.training.trainers.trainer import Trainer


def fold_folder(kind: type[Trainer], data: FoldData, folders: Folders) -> FoldFolder:
    """The folder of the results of a trainer on a fold."""
    plans, results = data.plans, ResultsFolder(folders.results)
    return results.model(plans.dataset_name, kind.__name__, plans.name, data.configuration.name).fold(data.fold)


def open_loop(
    kind: type[Trainer], data: FoldData, folders: Folders, device: torch.device, show_progress: bool = True
) -> Loop:
    """A trainer of that class before its first step, with fresh weights and the sizes of its plans.

    Raises
    ------
    GdmError
        Settings that the trainer cannot take, or plans without the encoder that it needs.
    """
    check_encoder(kind, data)
    kind = as_planned(kind, data.configuration)
    encoders = functools.partial(load_encoder, cache=folders.encoders, consents=read_consents(folders.consents))
    trainer = kind(data.configuration, data.plans.dataset, device, encoders)
    with explained_training(device, data):
        state = TrainingState.fresh(trainer)
    return Loop(trainer, state, data, fold_folder(kind, data, folders), show_progress)


def check_encoder(kind: type[Trainer], data: FoldData) -> None:
    """Refuse plans without the frozen encoder that the trainer needs (GdmError)."""
    plans, configuration = data.plans, data.configuration
    if not kind.uses_encoder:
        return
    levels = () if configuration.encoder is None else configuration.encoder.levels
    if any(level.in_decoder for level in levels) if kind.reads_decoder else levels:
        return
    needed, flags = "a frozen encoder", ["-encoder", AUTO]
    if kind.reads_decoder:
        # A model folder has a number of dimensions of its own, so the plans have those configurations alone.
        needed, flags = "a frozen segmenter", ["-c", configuration.name, "-encoder", FAMILIES[SEGMENTER].usage]
    raise GdmError(
        f"{kind.__name__} needs {needed}, and the plans have none for "
        f"{configuration.name} ({configuration.dimensions}D)",
        file=f"plans {plans.name}",
        found=configuration.encoder.spec if configuration.encoder is not None else None,
        remedy=f"plan again with {needed}: {COMMAND}; or train without one: -tr FidelityTrainer",
        command=commands.plan_experiment(plans.dataset_name, *planning_flags(plans.name), *flags),
    )
