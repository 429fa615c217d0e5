"""Runs that ``gdm_train --c`` can go on with, as commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gdmunet.checkpoint import load_metadata
from gdmunet.errors import COMMAND, CommandLine, GdmError
from gdmunet.paths import Folders
from gdmunet.plans import load_plans
from gdmunet.provenance import plans_differences
from gdmunet.results import FoldFolder, ModelFolder, ResultsFolder
from gdmunet.serialization import read_json, to_json
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.planned_sizes import as_planned
from gdmunet.training.trainers.registry import find_trainer, named_trainers
from gdmunet.training.trainers.settings import format_value, parts_of_name
from gdmunet.workflows.requests.completion import with_folders
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest

# Runs that an error lists.
_LISTED = 8
# Settings that say how long a training is.
_LENGTH = {"epochs", "iterations"}
# Beginnings of what two plans may differ in without another scale of the values or the voxels.
_WITHOUT_SCALE = ("patch size", "batch size", "network", "drift")


def pretrained_notes(weights: Path, data: FoldData) -> list[str]:
    """What weights to start from were trained on at another scale, in words: they learn it anew.

    Raises
    ------
    GdmError
        The weights, or the plans beside them, cannot be read.
    """
    start = load_metadata(weights)
    beside = ModelFolder(weights.resolve().parent.parent).plans
    unknown = f"note: the scale of the weights {weights} is not compared with that of the plans: "
    if not beside.is_file():
        return [f"{unknown}their model's {beside.name} does not lie in the folder above them"]
    theirs = load_plans(beside)
    name = data.configuration.name
    if start.configuration != name or name not in theirs.configurations:
        return [f"{unknown}they are of the configuration {start.configuration}, not {name}"]
    pairs = plans_differences(theirs, data.plans, name)
    lines = [f"{left}, and here {right}" for left, right in pairs if not left.startswith(_WITHOUT_SCALE)]
    if not lines:
        return []
    return [f"note: the weights {weights} were trained at another scale: {'; '.join(lines[:_LISTED])}"]


def nothing_to_continue(request: TrainRequest, data: FoldData, folder: FoldFolder, folders: Folders) -> GdmError:
    """The error for a run without a saved state: it lists the runs beside it that have one."""
    runs = sorted(set(_runs(request, data, folders)), key=lambda run: (run[0] != data.fold, str(run[1])))
    lacking = f"no {folder.resume.name}"
    trained = folder.checkpoints()
    if not trained and (other := _other_length(request, data, folders)) is not None:
        return GdmError(
            "there is nothing to continue: another length is another training, in a folder of its own",
            file=folder.resume,
            found=f"{other.path.parent.name} is finished",
            expected="the same epochs and iterations as the training that is to be continued",
            remedy="train without --c, from fresh weights, or from those of the finished one with {command}",
            command=command_line(
                replace(request, continue_training=None, pretrained_weights=other.checkpoint("final"))
            ),
        )
    if not runs:
        return GdmError(
            "there is nothing to continue",
            file=folder.resume,
            found=", ".join([lacking, *(f"a checkpoint {name}" for name in trained)]),
            remedy="check trainer, settings, plans, configuration and fold, or train "
            + ("anew from the weights that are there" if trained else "from the start"),
            command=anew_from(request, folder),
        )
    first, *others = [command for _, command in runs[:_LISTED]]
    lines = [COMMAND, *map(str, others), *(["..."] if len(runs) > _LISTED else [])]
    return GdmError(
        "there is nothing to continue in a run with these settings",
        file=folder.resume,
        found=lacking,
        remedy=("start over with --overwrite" if trained else "train without --c")
        + ", or continue a run that is there:"
        + "".join(f"\n    {line}" for line in lines),
        command=first,
    )


def anew_from(request: TrainRequest, folder: FoldFolder) -> CommandLine:
    """The command that trains anew, from the newest weights of the fold if it has some."""
    newest = next((name for name in ("latest", "final", "best") if name in folder.checkpoints()), None)
    if newest is None:
        return command_line(replace(request, continue_training=None))
    return command_line(
        replace(request, continue_training=None, overwrite=True, pretrained_weights=folder.checkpoint(newest))
    )


def _other_length(request: TrainRequest, data: FoldData, folders: Folders) -> FoldFolder | None:
    """The finished fold of a training that differs in its length alone; None: there is none."""
    named = find_trainer(request.trainer)
    asked = as_planned(named.derive(request.overrides), data.configuration)
    present = to_json(asked.settings())
    for model in ResultsFolder(folders.results).models():
        same = (model.dataset, model.name.plans, model.name.configuration) == (
            data.plans.dataset_name,
            data.plans.name,
            data.configuration.name,
        )
        fold = model.fold(data.fold)
        if not same or parts_of_name(model.name.trainer)[0] != named.__name__ or not fold.checkpoint("final").is_file():
            continue
        try:
            saved = load_metadata(fold.checkpoint("final")).settings
        except GdmError:  # damaged: it is not one to go on from
            continue
        differing = {key for key in saved.keys() & present.keys() if saved[key] != present[key]}
        if differing and differing <= _LENGTH:
            return fold
    return None


def _runs(request: TrainRequest, data: FoldData, folders: Folders) -> Iterator[tuple[str, CommandLine]]:
    """Fold and command of every run of these plans that was stopped."""
    for model in ResultsFolder(folders.results).models():
        name, plans = model.name, data.plans
        if (model.dataset, name.plans, name.configuration) != (plans.dataset_name, plans.name, data.configuration.name):
            continue
        for fold in model.folds():
            stopped = fold.resume.is_file() and not fold.is_finished
            if stopped and (spelled := _spelled(request, model, fold)) is not None:
                trainer, settings = spelled
                run = replace(
                    request,
                    fold=fold.fold,
                    trainer=trainer,
                    epochs=None,
                    iterations=None,
                    settings=settings,
                    pretrained_weights=None,
                )
                yield fold.fold, with_folders(command_line(run), folders)


def _spelled(request: TrainRequest, model: ModelFolder, fold: FoldFolder) -> tuple[str, dict[str, str]] | None:
    """Trainer and settings that lead to a folder, as on the command line; None if they are not known."""
    label = model.name.trainer
    own_name, names = parts_of_name(label)
    asked = find_trainer(request.trainer)
    spelling = request.trainer if asked.__name__ == own_name else own_name
    kind = asked if spelling == request.trainer else named_trainers().get(own_name)
    if kind is None or not fold.settings.is_file():
        return None
    try:
        saved = read_json(fold.settings)
        if not isinstance(saved, dict) or not names <= saved.keys():
            return None
        changed = {name: format_value(value) for name, value in saved.items() if name in names}
        return (spelling, changed) if kind.derive(changed).__name__ == label else None
    except GdmError:  # damaged, or settings of another version
        return None
