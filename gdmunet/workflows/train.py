"""Training as a command runs it: find everything, refuse to lose work, train, validate whole volumes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gdmunet.claims import Claim
from gdmunet.errors import COMMAND, GdmError
from gdmunet.metrics import DECIDING, METRICS
from gdmunet.owners import sweep
from gdmunet.paths import Folders
from gdmunet.patience import set_wait_limit
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.quantities import counted, memory_size
from gdmunet.results import FinishedSpec, ValidatedCheckpoint
from gdmunet.serialization import save_json
from gdmunet.training import distributed
from gdmunet.training.crew import DeadProcessError, run_crew
from gdmunet.training.distributed import Place
from gdmunet.training.loop.journal import Journal
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.memory_check import check_memory
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.loop.predecessor import make_room, settle
from gdmunet.training.loop.state import UnreadableStateError
from gdmunet.training.loop.validation import validate_fold
from gdmunet.training.patches.stream import default_loader_workers
from gdmunet.training.trainers.registry import nearest_named
from gdmunet.training.trainers.settings import format_value
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.continuing import anew_from
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.training_run import Run, check_run, check_start


def train(request: TrainRequest, folders: Folders) -> Path:
    """Train one fold and validate it; returns the model folder.

    Nothing that an earlier training made is touched before everything that can refuse has been asked: here, and in
    every process after it has opened what it needs. The fold is then set aside, until the new training has a
    checkpoint, and comes back if it ends before.

    Raises
    ------
    GdmError
        Unknown data set, plans, configuration, fold, trainer or setting; cases that are not prepared; a fold that is
        trained already or being trained; nothing to continue; a loss that is not a number; a number of GPUs that does
        not fit; a process that died.
    """
    run = Run.of(request, folders)
    check_run(run)
    work = "validation" if request.validate else "training"
    with Claim(run.folder.running, work, "this fold is being trained or validated by another process"):
        _sweep(run)
        _settle(run)
        if request.validate:
            _in_processes(run, _begin_nothing)
            check_promised([run.folder.summary(request.validate)])
            return run.model.path
        check_start(run)
        try:
            _in_processes(run, functools.partial(_begin, run))
        except GdmError as error:
            _lead_on(error, run)
            raise
        finally:
            _settle(run)
    check_promised(_promised(run))
    return run.model.path


def _promised(run: Run) -> list[Path]:
    """The files of a training that ended."""
    folder = run.folder
    files = [run.model.plans, folder.settings, folder.journal, folder.checkpoint("final")]
    return files if run.data.fold == "all" else [*files, folder.summary("final")]


def _lead_on(error: GdmError, run: Run) -> None:
    """Complete an error's remedy by the command that goes on from what the fold has."""
    request, folder = run.request, run.folder
    if isinstance(error, UnreadableStateError):
        remedy = "train anew from the weights that are there" if folder.checkpoints() else "train anew"
        error.remedy, error.command = (
            remedy,
            anew_from(replace(request, continue_training=False, overwrite=True), folder),
        )
    elif isinstance(error, DeadProcessError) and folder.can_continue and not folder.previous.path.is_dir():
        error.remedy = f"{error.remedy}; then go on with {COMMAND}"
        error.command = command_line(replace(request, continue_training=True, overwrite=False))


def _in_processes(run: Run, begin: Callable[[], None]) -> None:
    """Do the work here, or in several processes; `begin` is called once everything is open."""
    if run.request.num_gpus == 1:
        _work(run, begin)
    else:
        run_crew(_work_in_rank, (run.request, run.folders), run.request.num_gpus, run.device.type, begin)


def _work_in_rank(place: Place, begin: Callable[[], None], request: TrainRequest, folders: Folders) -> None:
    if folders.wait_limit is not None:
        set_wait_limit(folders.wait_limit)
    _work(replace(Run.of(request, folders), device=place.device), begin)


def _work(run: Run, begin: Callable[[], None]) -> None:
    """The work of each process: open everything, begin, train, validate."""
    request = run.request
    if request.validate:
        begin()
        _validate(run, request.validate)
        return
    loop = open_loop(run.kind, run.data, run.folders, run.device, request.show_progress)
    if request.continue_training:
        loop.resume()
    elif request.pretrained_weights:
        loop.state.load_pretrained(request.pretrained_weights)
    check_memory(loop.trainer, run.data, say)
    begin()
    first = distributed.rank() == 0
    if first:
        loop.journal.say(_introduction(loop))
    workers = request.processes
    if workers is None:
        workers = default_loader_workers(run.device, run.data.configuration, request.num_gpus)
    loop.train(workers)
    if run.data.fold != "all":
        _validate(run, "final")
        return
    _finish(run)
    if first:
        loop.journal.say("fold all holds no case out, so there is no validation of whole volumes")


def _begin_nothing() -> None:
    """Validation changes nothing of a training."""


def _begin(run: Run) -> None:
    """Set an earlier training aside, and write what the new one starts with."""
    folder = run.folder
    if not run.request.continue_training:
        make_room(folder)
    folder.finished.unlink(missing_ok=True)
    if not run.belonging.other_folds():
        # Else they lie there already: those of the other folds, which have been compared.
        save_json(run.plans, run.model.plans)
    save_json(run.kind.settings(), folder.settings)
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
        f"{trainer.device}, about {memory_size(configuration.predicted_memory.total)} planned\n"
        f"{trainer.description()}{chr(10) if trainer.description() else ''}"
        f"{_settings_in_words(type(trainer))}"
    )


def _settings_in_words(kind: type[Trainer]) -> str:
    base = nearest_named(kind)
    changed = ", ".join(f"{name}={format_value(value)}" for name, value in kind.changed_from(base).items())
    return f"settings that differ from {base.__name__}: {changed}" if changed else f"settings: those of {base.__name__}"
