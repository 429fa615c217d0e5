"""Training as a command runs it: find everything, refuse to lose work, train, validate whole volumes."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from gdmunet.atomic import remove
from gdmunet.claims import Claim
from gdmunet.device import find_device, usable_cores
from gdmunet.errors import COMMAND, QUEUE_AGAIN, GdmError, SilentEnd, Stopped
from gdmunet.metrics import DECIDING, METRICS
from gdmunet.owners import sweep
from gdmunet.paths import Folders, StartedProcess, find_processes
from gdmunet.patience import set_wait_limit
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.quantities import counted, memory_size
from gdmunet.results import FinishedSpec, ValidatedCheckpoint
from gdmunet.serialization import save_json, to_json
from gdmunet.training import distributed
from gdmunet.training.crew import run_crew
from gdmunet.training.loop.journal import Journal
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.memory_check import check_memory
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.loop.predecessor import make_room, settle
from gdmunet.training.loop.state import UnreadableStateError
from gdmunet.training.loop.trackers import TrackedRun, Trackers, wanted_trackers
from gdmunet.training.loop.validation import validate_fold
from gdmunet.training.patches.stream import default_loader_workers
from gdmunet.training.trainers.planned_sizes import as_planned
from gdmunet.training.trainers.registry import nearest_named
from gdmunet.training.trainers.settings import format_value
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.training.watch import DeadProcessError
from gdmunet.workflows.continuing import anew_from
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.staging import fetch_plans, stage
from gdmunet.workflows.training_run import Run, check_launch, check_run, check_start


def train(request: TrainRequest, folders: Folders) -> Path:
    """Train one fold and validate it; returns the model folder.

    Nothing that an earlier training made is touched before everything that can refuse has been asked: here, and in
    every process after it has opened what it needs. The fold is then set aside, until the new training has a
    checkpoint, and comes back if it ends before. A process that torchrun or srun started joins the others.

    Raises
    ------
    GdmError
        Unknown data set, plans, configuration, fold, trainer or setting; cases that are not prepared; a fold that is
        trained already or being trained; nothing to continue; a loss that is not a number; a number of GPUs that does
        not fit; a process that died.
    """
    place = find_processes()
    check_launch(request, place)
    fetch_plans(request, folders)
    try:
        if place is not None:
            return _train_as_member(place, request, folders)
        return _train_alone(request, folders)
    except DeadProcessError as error:
        if place is not None:  # its launcher's command line is not known here
            error.remedy = f"{error.remedy}; then start the same again with --c"
        raise
    except Stopped as end:
        # Ctrl-C is a user's, who does not want it started again.
        raise Stopped(end.number, request.continue_training == "auto" and end.number != signal.SIGINT) from end
    except SilentEnd as end:
        raise SilentEnd(QUEUE_AGAIN if request.continue_training == "auto" and end.status != 1 else end.status) from end


def _train_alone(request: TrainRequest, folders: Folders) -> Path:
    """Train in this process, or in several of this machine that it starts."""
    run = Run.of(request, folders).settled()
    check_run(run)
    if _is_done(request, run):
        return run.model.path
    if request.num_gpus == 1:
        _train_here(run)
    else:
        _train_in_processes(run)
    check_promised(_promised(run))
    return run.model.path


def _is_done(request: TrainRequest, run: Run) -> bool:
    """Whether a job that is queued again finds its work done; the first process says so."""
    done = request.continue_training == "auto" and run.folder.is_finished
    if done and distributed.rank() == 0:
        say(f"{run.folder.path} is finished already")
    return done


def _train_in_processes(run: Run) -> None:
    """Train by several processes of this machine, each of which does what one that torchrun started does."""
    try:
        run_crew(_train_in_rank, (run.request, run.folders), run.request.num_gpus)
    except GdmError as error:
        _lead_on(error, run)
        raise
    finally:
        # The first process does so, unless it was killed.
        with contextlib.suppress(GdmError), _claim(run):
            _settle(run)


def _train_in_rank(request: TrainRequest, folders: Folders) -> None:
    if folders.wait_limit is not None:
        set_wait_limit(folders.wait_limit)
    place = find_processes()
    assert place is not None, "the launcher sets the variables"
    with distributed.member(place, find_device(request.device).type) as device:
        _train_here(replace(Run.of(request, folders), device=device))


def _train_as_member(place: StartedProcess, request: TrainRequest, folders: Folders) -> Path:
    """Train as one of the processes that torchrun or srun started; the first one speaks."""
    with distributed.member(place, find_device(request.device).type) as device:
        run = replace(Run.of(request, folders), device=device)
        run = run.settled(distributed.gather(run.continues)[0])
        check_run(run, place)
        if _is_done(request, run):
            return run.model.path
        try:
            _train_here(run)
        except GdmError as error:
            _lead_on(error, run)
            raise
        if distributed.rank() == 0:  # which wrote them; the others come here while it still writes
            check_promised(_promised(run))
        return run.model.path


def _claim(run: Run) -> Claim:
    work = "validation" if run.request.validate else "training"
    return Claim(run.folder.running, work, "this fold is being trained or validated by another process")


def _train_here(run: Run) -> None:
    """Train or validate in this process, which may be one of several: the first one holds the fold."""
    first = distributed.rank() == 0
    with _claim(run) if first else contextlib.nullcontext():
        if first:
            _sweep(run)
            _settle(run)
            if not run.request.validate:
                check_start(run)
        distributed.barrier()  # the others go on once the fold is held
        try:
            stage(run.data, run.request)
            _work(run, functools.partial(_begin, run))
        except GdmError as error:
            if distributed.world_size() == 1:
                _lead_on(error, run)
            raise
        finally:
            if first and not run.request.validate:
                _settle(run)


def _promised(run: Run) -> list[Path]:
    """The files of a training that ended, or of a validation."""
    folder = run.folder
    if run.request.validate:
        return [folder.summary(run.request.validate)]
    files = [run.model.plans, folder.settings, folder.journal, folder.checkpoint("final")]
    return files if run.data.fold == "all" else [*files, folder.summary("final")]


def _lead_on(error: GdmError, run: Run) -> None:
    """Complete an error's remedy by the command that goes on from what the fold has."""
    request, folder = run.request, run.folder
    if isinstance(error, UnreadableStateError):
        remedy = "train anew from the weights that are there" if folder.checkpoints() else "train anew"
        error.remedy, error.command = (
            remedy,
            anew_from(replace(request, continue_training=None, overwrite=True), folder),
        )
    elif isinstance(error, DeadProcessError) and folder.can_continue and not folder.previous.path.is_dir():
        error.remedy = f"{error.remedy}; then go on with {COMMAND}"
        error.command = command_line(replace(request, continue_training="latest", overwrite=False))


def _work(run: Run, begin: Callable[[], None]) -> None:
    """The work of each process: open everything, begin, train, validate."""
    request = run.request
    if request.validate:
        _validate(run, request.validate)
        return
    loop = open_loop(run.kind, run.data, run.folders, run.device, request.show_progress)
    if request.continue_training:
        loop.resume()
    elif request.pretrained_weights:
        loop.state.load_pretrained(request.pretrained_weights)
    check_memory(loop.trainer, run.data, say)
    distributed.barrier()  # every process has opened everything
    first = distributed.rank() == 0
    if first:
        begin()
        loop.journal.say(_introduction(loop))
        tracked = TrackedRun(run.folder, to_json(loop.trainer.settings()))
        loop.journal.listeners.append(Trackers(wanted_trackers(request.tracker), tracked, loop.journal.say).record)
    distributed.barrier()
    workers = request.processes
    if workers is None:
        workers = default_loader_workers(run.device, run.data.configuration, distributed.neighbours())
    loop.train(workers)
    if run.data.fold != "all":
        _validate(run, "final")
        return
    _finish(run)
    if first:
        loop.journal.say("fold all holds no case out, so there is no validation of whole volumes")


def _begin(run: Run) -> None:
    """Set an earlier training aside, and write what the new one starts with."""
    folder = run.folder
    if not run.request.continue_training:
        make_room(folder)
    remove(folder.finished)
    if not run.belonging.other_folds():
        # Else they lie there already: those of the other folds, which have been compared.
        save_json(run.plans, run.model.plans)
    save_json(as_planned(run.kind, run.data.configuration).settings(), folder.settings)
    save_json(run.data.split, folder.split)


def _sweep(run: Run) -> None:
    """Remove what killed runs left half written, in the fold and its folders."""
    folder = run.folder
    for path in (folder.path, folder.validation("final"), folder.validation("best"), folder.previous.path):
        sweep(path)


def _settle(run: Run) -> None:
    news = settle(run.folder)
    if news is not None:
        say(news)


def _validate(run: Run, checkpoint: ValidatedCheckpoint) -> None:
    data, folder = run.data, run.folder
    summary = validate_fold(data, folder, checkpoint, run.folders, run.device, run.request.show_progress)
    if distributed.rank() == 0:
        score = METRICS[DECIDING].sentence(summary.mean[DECIDING], data.unit)
        Journal(folder, speak=True).say(f"validation of whole volumes ({checkpoint}): {score}")
    if checkpoint == "final":
        _finish(run)


def _finish(run: Run) -> None:
    """Write the record that the training came to its end, after everything else."""
    if distributed.rank() == 0:
        save_json(FinishedSpec(), run.folder.finished)


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
        f"{_device_in_words(loop)}, about {memory_size(configuration.predicted_memory.total)} planned\n"
        f"{trainer.description()}{chr(10) if trainer.description() else ''}"
        f"{_settings_in_words(type(trainer))}"
    )


def _device_in_words(loop: Loop) -> str:
    device, planner = loop.trainer.device, loop.data.plans.planner
    if device.type != "cpu":
        return str(device)
    meant = "" if planner == "tiny" else f"; the plans' network, of the family {planner}, is meant for a GPU"
    there = "" if torch.cuda.is_available() else "no GPU is at hand, "
    return f"{device} ({there}{counted(usable_cores(), 'core')}{meant})"


def _settings_in_words(kind: type[Trainer]) -> str:
    base = nearest_named(kind)
    changed = ", ".join(f"{name}={format_value(value)}" for name, value in kind.changed_from(base).items())
    return f"settings that differ from {base.__name__}: {changed}" if changed else f"settings: those of {base.__name__}"
