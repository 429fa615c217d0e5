"""A training that was asked for: all that it names, and everything that can refuse it before a process starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from gdmunet import commands
from gdmunet.dataset import find_dataset
from gdmunet.device import find_device
from gdmunet.errors import GdmError
from gdmunet.model_names import check_model_name
from gdmunet.paths import Folders, StartedProcess
from gdmunet.plans import Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.progress import say
from gdmunet.quantities import counted
from gdmunet.results import FoldFolder, ModelFolder, ModelName
from gdmunet.splits import named
from gdmunet.training.loop.belonging import Belonging
from gdmunet.training.loop.opening import check_encoder, fold_folder
from gdmunet.training.loop.trackers import wanted_trackers
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.continuing import anew_from, nothing_to_continue, pretrained_notes
from gdmunet.workflows.planned import find_planned
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.staging import mirrored


class UnsharedBatchError(GdmError):
    """Processes that cannot share a batch.

    Attributes
    ----------
    fewer
        The largest smaller number of processes that can.
    """

    fewer: int = 1


@dataclass(frozen=True)
class Run:
    """What a request for training means on this machine.

    Attributes
    ----------
    kind
        Class of the trainer, with the settings that were asked for.
    data
        Prepared cases of the fold.
    folder
        Results of the fold.
    """

    request: TrainRequest
    folders: Folders
    device: torch.device
    plans: Plans
    kind: type[Trainer]
    data: FoldData
    folder: FoldFolder

    @classmethod
    def of(cls, request: TrainRequest, folders: Folders) -> Run:
        """Find everything that the request names.

        Raises
        ------
        GdmError
            Unknown device, data set, plans, configuration, fold, trainer or setting; cases that are not prepared.
        """
        device = find_device(request.device)
        plans = find_planned(folders, request.dataset, request.plans)
        _check_fold(plans, request)
        _check_prepared(plans, request, folders)
        kind = find_trainer(request.trainer).derive(request.overrides)
        data = mirrored(FoldData.of(plans, request.configuration, request.fold, folders.preprocessed), request, folders)
        return cls(request, folders, device, plans, kind, data, fold_folder(kind, data, folders))

    @property
    def continues(self) -> bool:
        """Whether there is a training to go on with."""
        return self.folder.resume.is_file() or self.folder.previous.resume.is_file()

    def settled(self, continues: bool | None = None) -> Run:
        """The same, with `auto` decided by what lies there, or as another process has decided it."""
        if self.request.continue_training != "auto":
            return self
        goes_on = self.continues if continues is None else continues
        return replace(self, request=replace(self.request, continue_training="latest" if goes_on else None))

    @property
    def model(self) -> ModelFolder:
        """Results of all folds."""
        return ModelFolder(self.folder.path.parent)

    @property
    def belonging(self) -> Belonging:
        """What is asked for, against what lies in the model's folder."""
        return Belonging(self.kind, self.data, self.folder)


def check_launch(request: TrainRequest, place: StartedProcess | None) -> None:
    """Refuse a number of processes that contradicts the launcher's (GdmError)."""
    if place is None or request.num_gpus in (1, place.size):
        return
    raise GdmError(
        f"{place.launcher} has started another number of processes than -num_gpus asks for",
        found=f"-num_gpus {request.num_gpus}",
        expected=f"{counted(place.size, 'process')}, as {place.launcher} started them",
        remedy=f"leave -num_gpus to {place.launcher}, or run this without it",
        command=command_line(request),
    )


def check_run(run: Run, place: StartedProcess | None = None) -> None:
    """Refuse what cannot be done, before anything is opened or written.

    Parameters
    ----------
    place
        Place of this process among those that a launcher started; the first one says what is remarkable.

    Raises
    ------
    GdmError
        A number of GPUs that does not fit, an encoder that is not planned, no raw files to validate on, nothing to
        continue, cases that were prepared for other plans, a model that predict would not find; a fold, or others of
        the model, that were trained with other plans, cases, settings or another class.
    """
    if place is None:
        _check_gpus(run)
    _check_anywhere(run, place, speak=place is None or place.number == 0)


def check_queued(run: Run) -> None:
    """Refuse what `check_run` would refuse on another machine, whose GPUs are not known here (GdmError)."""
    _check_anywhere(run, None, speak=False)


def _check_anywhere(run: Run, place: StartedProcess | None, speak: bool) -> None:
    request, data, folder = run.request, run.data, run.folder
    _check_shares(run, place)
    check_model_name(ModelName(run.kind.__name__, run.plans.name, data.configuration.name))
    _check_recipe(run, speak)
    _check_belonging(run, speak)
    if request.validate or data.fold != "all":
        find_dataset(run.folders.raw, run.plans.dataset_name)
    if request.validate:
        return
    if request.pretrained_weights and not request.continue_training:
        for line in pretrained_notes(request.pretrained_weights, data):
            say(line)
    wanted_trackers(request.tracker)
    check_encoder(run.kind, data)
    # What a trainer refuses by itself.
    run.kind(data.configuration, run.plans.dataset, run.device)
    if request.continue_training and not run.continues:
        raise nothing_to_continue(request, data, folder, run.folders)


def check_start(run: Run) -> None:
    """Refuse to start over a fold that has been trained, unless that was asked for (GdmError)."""
    request, folder = run.request, run.folder
    trained = folder.trained_files()
    if not trained or request.continue_training or request.overwrite:
        return
    remedy, command = "run {command}, or start over with --overwrite", replace(request, continue_training="latest")
    if not folder.resume.is_file():
        remedy = (
            f"there is no {folder.resume.name} to continue from: train anew from these weights with {{command}}, or "
            "from fresh ones with --overwrite alone"
        )
    raise GdmError(
        "this fold has been trained already, wholly or in part",
        file=folder.path,
        found=", ".join(path.name for path in trained),
        remedy=remedy,
        command=command_line(command) if folder.resume.is_file() else anew_from(request, folder),
    )


def _check_recipe(run: Run, speak: bool) -> None:
    """Refuse cases of other plans before a process starts; the store refuses them whenever it opens one."""
    data = run.data
    silent = data.store.check(dict.fromkeys((*data.training, *data.validation)))
    if silent and speak:
        say(f"note: {counted(silent, 'prepared case')} do not say which plans they were made for: {named(silent)}")


def _check_belonging(run: Run, speak: bool) -> None:
    request = run.request
    lines = []
    if request.validate or request.continue_training:
        lines += run.belonging.check_own(request.validate)
    if not request.validate:
        lines += run.belonging.check_beside()
    for line in lines if speak else ():
        say(line)


def _check_gpus(run: Run) -> None:
    request = run.request
    wanted, batch = request.num_gpus, run.data.configuration.batch_size
    if wanted == 1:
        return
    there = torch.cuda.device_count() if run.device.type == "cuda" else 0
    if run.device.type == "cuda" or request.device is None:
        if wanted > there:
            fewer = max(n for n in range(1, max(there, 1) + 1) if batch % n == 0)
            raise GdmError(
                "more GPUs were asked for than there are",
                found=counted(there, "GPU"),
                expected=counted(wanted, "GPU"),
                remedy="train on those that are there (a training also continues on fewer)",
                command=command_line(replace(request, num_gpus=fewer)),
            )
    elif run.device.type != "cpu":
        raise GdmError(
            f"several processes cannot train on {run.device.type}",
            found=f"-num_gpus {wanted}",
            command=command_line(replace(request, num_gpus=1)),
        )


def _check_shares(run: Run, place: StartedProcess | None) -> None:
    """Refuse a batch that the processes cannot share."""
    request, batch = run.request, run.data.configuration.batch_size
    wanted = request.num_gpus if place is None else place.size
    if request.validate or batch % wanted == 0:
        return
    fewer = max(n for n in range(1, wanted) if batch % n == 0)
    error = UnsharedBatchError(
        f"a batch of {batch} cannot be shared by {counted(wanted, 'process')} alike",
        file=f"plans {run.plans.name}",
        found=f"-num_gpus {wanted}" if place is None else f"{counted(wanted, 'process')}, started by {place.launcher}",
        expected=f"a number that divides {batch}",
        remedy=f"plan for {wanted} GPUs (-num_gpus of the planning), or train on fewer",
        command=command_line(replace(request, num_gpus=fewer)),
    )
    error.fewer = fewer
    raise error


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
