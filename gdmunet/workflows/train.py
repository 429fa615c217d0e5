"""Training as a command runs it: find everything, refuse what would lose work, train, validate whole volumes."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import torch

from gdmunet import commands
from gdmunet.dataset import find_dataset
from gdmunet.device import find_device
from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.plans import Plans, find_plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.results import ResultsFolder
from gdmunet.serialization import save_json
from gdmunet.training import distributed
from gdmunet.training.loop import state
from gdmunet.training.loop.interruption import FoldLock
from gdmunet.training.loop.validation import validate_fold
from gdmunet.training.patches.stream import default_loader_workers
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.requests.training import TrainRequest


def train(request: TrainRequest, folders: Folders) -> Path:
    """Train one fold and validate it; returns the model folder.

    Raises
    ------
    GdmError
        Unknown data set, plans, configuration, fold, trainer or setting; cases that are not prepared; a fold that is
        trained already or being trained now; nothing to continue; a loss that is not a number.
    """
    device = find_device(request.device)
    if request.num_gpus == 1:
        return _train_here(request, folders, device)
    if device.type == "cuda" and request.num_gpus > torch.cuda.device_count():
        raise GdmError(f"{request.num_gpus} GPUs were asked for", found=f"{torch.cuda.device_count()} GPUs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    torch.multiprocessing.spawn(_train_rank, (request, folders, device.type, address), nprocs=request.num_gpus)
    plans, trainer = _plans_of(request, folders), _trainer_class(request)
    results = ResultsFolder(folders.results)
    return results.model(plans.dataset_name, trainer.__name__, plans.name, request.configuration).path


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
    _check_prepared(plans, request, folders)
    trainer_class = _trainer_class(request)
    trainer = trainer_class(plans, request.configuration, request.fold, folders, device)
    first = distributed.rank() == 0
    if request.validate:
        validate_fold(trainer, request.validate, request.show_progress)
        return trainer.model_folder.path
    if not first:
        _train(trainer, request, device)
        return trainer.model_folder.path
    with FoldLock(trainer.fold_folder.path):
        _check_start(trainer, request)
        save_json(plans, trainer.model_folder.plans)
        save_json(trainer.settings(), trainer.fold_folder.settings)
        _train(trainer, request, device)
        if trainer.fold == "all":
            trainer.journal.say("fold all holds no case out, so there is no validation of whole volumes")
        else:
            validate_fold(trainer, "final", request.show_progress)
    return trainer.model_folder.path


def _train(trainer: Trainer, request: TrainRequest, device: torch.device) -> None:
    distributed.barrier()
    if request.continue_training:
        state.load_resume_state(trainer)
    elif request.pretrained_weights:
        state.load_pretrained(trainer, request.pretrained_weights)
    if distributed.rank() == 0:
        trainer.journal.say(_introduction(trainer))
    workers = request.processes
    trainer.train(
        default_loader_workers(device, request.num_gpus) if workers is None else workers, request.show_progress
    )


def _introduction(trainer: Trainer) -> str:
    configuration = trainer.configuration
    names = ", ".join(trainer.validation_cases[:5]) + (", ..." if len(trainer.validation_cases) > 5 else "")
    parameters = sum(p.numel() for p in trainer.network.parameters()) / 1e6
    return (
        f"{type(trainer).__name__} on {trainer.plans.dataset_name} {configuration.name} fold {trainer.fold}: "
        f"{len(trainer.training_cases)} training cases, validation {names}"
        f"{' (the training cases themselves)' if trainer.fold == 'all' else ''}; "
        f"patch {configuration.patch_size}, batch {configuration.batch_size}, {parameters:.1f} M parameters, "
        f"{trainer.total_iterations - trainer.iteration} iterations to go, {trainer.precision_on(trainer.device)} on "
        f"{trainer.device}, about {configuration.predicted_memory.total / 1e9:.1f} GB planned\n"
        f"{trainer.description()}{chr(10) if trainer.description() else ''}"
        f"settings: {trainer.settings()}"
    )


def _plans_of(request: TrainRequest, folders: Folders) -> Plans:
    return find_plans(find_dataset(folders.preprocessed, request.dataset), request.plans)


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
            found=f"{len(prepared)} prepared cases",
            # The plans of one patient have no folds, and so list no cases.
            expected=f"{len(wanted)} cases" if wanted else "every case of the only patient",
            command=commands.preprocess(request.dataset, request.configuration, plans.name),
        )


def _check_start(trainer: Trainer, request: TrainRequest) -> None:
    if request.continue_training:
        return
    folder = trainer.fold_folder
    trained = folder.trained_files()
    if trained and not request.overwrite:
        raise GdmError(
            "this fold has been trained already, wholly or in part",
            file=folder.path,
            found=", ".join(path.name for path in trained),
            remedy="continue with --c, or start over with --overwrite",
        )
    for file in (folder.journal, folder.log, folder.progress_figure, *trained):
        file.unlink(missing_ok=True)
    for place in (folder.validation("final"), folder.validation("best"), folder.tensorboard):
        shutil.rmtree(place, ignore_errors=True)
