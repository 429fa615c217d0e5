"""`gdm_pretrain_encoder`: an encoder trained on the user's target volumes."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from gdmunet.atomic import remove
from gdmunet.claims import Claim
from gdmunet.device import find_device
from gdmunet.encoders.pretraining import ENCODER_FILE, Pretraining
from gdmunet.encoders.pretraining_options import PretrainingOptions
from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.progress import Progress, say
from gdmunet.quantities import counted
from gdmunet.results import RESUME_FILE, RUNNING_FILE, ResultsFolder
from gdmunet.training.loop.interruption import Interruption
from gdmunet.workflows.encoder_data import TargetSource, TargetWindows
from gdmunet.workflows.planned import find_planned
from gdmunet.workflows.requests.encoders import PretrainEncoderRequest


def pretrain_encoder(request: PretrainEncoderRequest, folders: Folders) -> Path:
    """Pretrain, or go on where an interrupted run stood; gives the run folder.

    Raises
    ------
    GdmError
        Unknown data set, plans, configuration or fold; cases that are not prepared; changed settings; a loss that is
        not a number.
    Stopped
        A signal asked for the end, and the state is saved.
    """
    flat = request.dimensions == 2
    name = request.configuration or ("2d" if flat else "3d_fullres")
    plans = find_planned(folders, request.dataset, request.plans)
    source = TargetSource.find(plans, name, request.fold, folders)
    settings = PretrainingOptions(
        dimensions=request.dimensions,
        iterations=request.iterations,
        crop=request.crop or (96 if flat else 48),
        batch_size=request.batch_size or (12 if flat else 4),
        seed=request.seed,
    )
    settings = dataclasses.replace(settings, warmup=min(settings.warmup, settings.iterations // 10))
    folder = request.out or default_run_folder(folders, plans.dataset_name, plans.name, name, request.fold)
    windows = TargetWindows(source, settings.dimensions, settings.window, settings.batch_size, settings.seed)
    recipe: dict[str, object] = {
        "dataset": plans.dataset_name,
        "plans": plans.name,
        "configuration": name,
        "fold": request.fold,
        "modality": plans.dataset.target_name,
        "cases": list(source.fold.training),
    }
    device = find_device(request.device)  # before anything is removed
    with Claim(folder / RUNNING_FILE, "pretraining", "another process trains an encoder in this folder"):
        _check_start(folder, request.overwrite)
        training = Pretraining(settings, windows, folder, recipe=recipe, device=device)
        _train(training, request.show_progress)
    return folder


def default_run_folder(folders: Folders, dataset: str, plans: str, configuration: str, fold: str) -> Path:
    """The folder of a run if the user does not name one."""
    return ResultsFolder(folders.results).encoder_run(dataset, plans, configuration, fold)


def _train(training: Pretraining, show_progress: bool) -> None:
    total = training.settings.iterations
    started = time.monotonic()
    with Progress("pretraining", total, show_progress) as progress, Interruption() as interruption:

        def report(iteration: int, losses: dict[str, float]) -> None:
            notes = " ".join(f"{name} {value:.2f}" for name, value in losses.items())
            progress.step(notes, count=iteration - progress.done)

        finished = training.run(report=report, stop=lambda: interruption.requested is not None)
    say(
        f"{training.state.iteration} of {counted(total, 'iteration')}, {time.monotonic() - started:.0f} s: "
        f"{training.folder}"
    )
    if not finished:
        say("stopped; the same command goes on")
        interruption.stop()


def _check_start(folder: Path, overwrite: bool) -> None:
    if overwrite:
        for name in (RESUME_FILE, ENCODER_FILE):
            remove(folder / name)
    elif (folder / ENCODER_FILE).is_file() and not (folder / RESUME_FILE).is_file():
        raise GdmError(
            "the folder holds an encoder whose training state is gone",
            file=folder,
            remedy="choose another folder with --out, or start over with --overwrite",
        )
