"""Training as a command runs it: find everything, refuse to lose work, train, validate whole volumes."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import torch
from torch.multiprocessing.spawn import spawn

from gdmunet import commands
from gdmunet.device import find_device
from gdmunet.errors import GdmError
from gdmunet.metrics import DECIDING, METRICS
from gdmunet.paths import Folders
from gdmunet.plans import Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.quantities import counted, memory_size
from gdmunet.results import FoldFolder, ModelFolder, ValidatedCheckpoint
from gdmunet.serialization import save_json
from gdmunet.training import distributed
from gdmunet.training.loop.interruption import FoldLock
from gdmunet.training.loop.journal import Journal
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.opening import fold_folder, open_loop
from gdmunet.training.loop.validation import validate_fold
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.patches.stream import default_loader_workers
from gdmunet.training.trainers.registry import find_trainer, nearest_named
from gdmunet.training.trainers.settings import format_value
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.continuing import nothing_to_continue
from gdmunet.workflows.planned import find_planned
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest


def train(request: TrainRequest, folders: Folders) -> Path:
    """Train one fold and validate it; returns the model folder.

    Raises
    ------
    GdmError
        Unknown data set, plans, configuration, fold, trainer or setting; cases that are not prepared; a fold that is
        trained already or being trained; nothing to continue; a loss that is not a number.
    """
    device = find_device(request.device)
    if request.num_gpus == 1:
        return _train_here(request, folders, device)
    if device.type == "cuda" and request.num_gpus > torch.cuda.device_count():
        raise GdmError(
            "more GPUs were asked for than there are",
            found=counted(torch.cuda.device_count(), "GPU"),
            expected=counted(request.num_gpus, "GPU"),
            remedy="ask for fewer with -num_gpus",
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    spawn(_train_rank, (request, folders, device.type, address), nprocs=request.num_gpus)
    data = FoldData.of(_plans_of(request, folders), request.configuration, request.fold, folders.preprocessed)
    return fold_folder(_trainer_class(request), data, folders).path.parent


def _train_rank(rank: int, request: TrainRequest, folders: Folders, device_type: str, address: str) -> None:
    distributed.join(rank, request.num_gpus, device_type, address)
    try:
        device = torch.device(device_type, rank if device_type == "cuda" else 0)
        if device_type == "cuda":
            torch.cuda.set_device(device)
        _train_here(request, folders, device)
    finally:
        distributed.leave()


def _train_here(request: TrainRequest, folders: Folders, device: torch.device) -> Path:
    plans = _plans_of(request, folders)
    _check_fold(plans, request)
    _check_prepared(plans, request, folders)
    kind = _trainer_class(request)
    data = FoldData.of(plans, request.configuration, request.fold, folders.preprocessed)
    folder = fold_folder(kind, data, folders)
    model = ModelFolder(folder.path.parent)
    if request.validate:
        _validate(data, folder, request.validate, folders, device, request.show_progress)
        return model.path
    if request.continue_training and not folder.resume.is_file():
        raise nothing_to_continue(request, data, folder, folders)
    loop = open_loop(kind, data, folders, device, request.show_progress)
    if distributed.rank() > 0:
        _train(loop, request)
        return model.path
    with FoldLock(folder.path):
        _check_start(folder, request)
        save_json(plans, model.plans)
        save_json(loop.trainer.settings(), folder.settings)
        _train(loop, request)
        if data.fold == "all":
            loop.journal.say("fold all holds no case out, so there is no validation of whole volumes")
        else:
            _validate(data, folder, "final", folders, device, request.show_progress)
    return model.path


def _train(loop: Loop, request: TrainRequest) -> None:
    distributed.barrier()
    if request.continue_training:
        loop.resume()
    elif request.pretrained_weights:
        loop.state.load_pretrained(request.pretrained_weights)
    if distributed.rank() == 0:
        loop.journal.say(_introduction(loop))
    workers = request.processes
    if workers is None:
        workers = default_loader_workers(loop.trainer.device, loop.data.configuration, request.num_gpus)
    loop.train(workers)


def _validate(
    data: FoldData,
    folder: FoldFolder,
    checkpoint: ValidatedCheckpoint,
    folders: Folders,
    device: torch.device,
    show_progress: bool,
) -> None:
    summary = validate_fold(data, folder, checkpoint, folders, device, show_progress)
    score = METRICS[DECIDING].sentence(summary.mean[DECIDING], data.unit)
    Journal(folder, speak=True).say(f"validation of whole volumes ({checkpoint}): {score}")


def _introduction(loop: Loop) -> str:
    trainer, data, configuration = loop.trainer, loop.data, loop.data.configuration
    names = ", ".join(data.validation[:5]) + (", ..." if len(data.validation) > 5 else "")
    parameters = sum(p.numel() for p in loop.state.network.parameters()) / 1e6
    return (
        f"{type(trainer).__name__} on {data.plans.dataset_name} {configuration.name} ({data.plans.name}) "
        f"fold {data.fold}: {counted(data.training, 'training case')}, validation {names}"
        f"{' (the training cases themselves)' if data.fold == 'all' else ''}; "
        f"patch {configuration.patch_size}, batch {configuration.batch_size}, {parameters:.1f} M parameters, "
        f"{counted(trainer.total_iterations - loop.state.iteration, 'iteration')} to go, "
        f"{trainer.precision_on(trainer.device)} on "
        f"{trainer.device}, about {memory_size(configuration.predicted_memory.total)} planned\n"
        f"{trainer.description()}{chr(10) if trainer.description() else ''}"
        f"{_settings_in_words(type(trainer))}"
    )


def _settings_in_words(kind: type[Trainer]) -> str:
    base = nearest_named(kind)
    changed = ", ".join(f"{name}={format_value(value)}" for name, value in kind.changed_from(base).items())
    return f"settings that differ from {base.__name__}: {changed}" if changed else f"settings: those of {base.__name__}"


def _plans_of(request: TrainRequest, folders: Folders) -> Plans:
    return find_planned(folders, request.dataset, request.plans)


def _trainer_class(request: TrainRequest) -> type[Trainer]:
    return find_trainer(request.trainer).derive(request.overrides)


def _check_prepared(plans: Plans, request: TrainRequest, folders: Folders) -> None:
    plans.configuration(request.configuration)
    store = CaseStore(folders.preprocessed / plans.dataset_name, plans.name, request.configuration)
    prepared = set(store.identifiers())
    wanted = {case for fold in plans.folds for case in (*fold.training, *fold.validation)}
    missing = sorted(wanted - prepared)
    if missing or not prepared:
        raise GdmError(
            "cases are not prepared" if prepared else "no case is prepared",
            case=", ".join(missing[:5]) or None,
            file=store.folder,
            found=counted(prepared, "prepared case"),
            # The plans of one patient have no folds, and so list no cases.
            expected=counted(wanted, "case") if wanted else "every case of the only patient",
            command=commands.preprocess(request.dataset, request.configuration, plans.name),
        )


def _check_fold(plans: Plans, request: TrainRequest) -> None:
    try:
        plans.fold(request.fold, every_case=())
    except GdmError as error:
        if not plans.folds:
            error.located(command=command_line(replace(request, fold="all")))
        raise


def _check_start(folder: FoldFolder, request: TrainRequest) -> None:
    if request.continue_training:
        return
    trained = folder.trained_files()
    if trained and not request.overwrite:
        raise GdmError(
            "this fold has been trained already, wholly or in part",
            file=folder.path,
            found=", ".join(path.name for path in trained),
            remedy="run {command}, or start over with --overwrite",
            command=command_line(replace(request, continue_training=True)),
        )
    for file in (folder.journal, folder.log, folder.progress_figure, *trained):
        file.unlink(missing_ok=True)
    for place in (folder.validation("final"), folder.validation("best"), folder.tensorboard):
        shutil.rmtree(place, ignore_errors=True)
