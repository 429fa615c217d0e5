"""A training that was asked for: all that it names, and everything that can refuse it before a process starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from gdmunet import commands
from gdmunet.dataset import find_dataset
from gdmunet.device import find_device
from gdmunet.errors import GdmError
from gdmunet.model_names import check_model_name
from gdmunet.paths import Folders
from gdmunet.plans import Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.progress import say
from gdmunet.quantities import counted
from gdmunet.results import FoldFolder, ModelFolder, ModelName
from gdmunet.splits import named
from gdmunet.training.loop.belonging import Belonging
from gdmunet.training.loop.opening import check_encoder, fold_folder
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.continuing import anew_from, nothing_to_continue
from gdmunet.workflows.planned import find_planned
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest


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
        data = FoldData.of(plans, request.configuration, request.fold, folders.preprocessed)
        return cls(request, folders, device, plans, kind, data, fold_folder(kind, data, folders))

    @property
    def model(self) -> ModelFolder:
        """Results of all folds."""
        return ModelFolder(self.folder.path.parent)

    @property
    def belonging(self) -> Belonging:
        """What is asked for, against what lies in the model's folder."""
        return Belonging(self.kind, self.data, self.folder)


def check_run(run: Run) -> None:
    """Refuse what cannot be done, before anything is opened or written.

    Raises
    ------
    GdmError
        A number of GPUs that does not fit, an encoder that is not planned, no raw files to validate on, nothing to
        continue, cases that were prepared for other plans, a model that predict would not find; a fold, or others of
        the model, that were trained with other plans, cases, settings or another class.
    """
    request, data, folder = run.request, run.data, run.folder
    _check_gpus(run)
    check_model_name(ModelName(run.kind.__name__, run.plans.name, data.configuration.name))
    _check_recipe(run)
    _check_belonging(run)
    if request.validate or data.fold != "all":
        find_dataset(run.folders.raw, run.plans.dataset_name)
    if request.validate:
        return
    check_encoder(run.kind, data)
    # What a trainer refuses by itself.
    run.kind(data.configuration, run.plans.dataset, run.device)
    if request.continue_training and not (folder.resume.is_file() or folder.previous.resume.is_file()):
        raise nothing_to_continue(request, data, folder, run.folders)


def check_start(run: Run) -> None:
    """Refuse to start over a fold that has been trained, unless that was asked for (GdmError)."""
    request, folder = run.request, run.folder
    trained = folder.trained_files()
    if not trained or request.continue_training or request.overwrite:
        return
    remedy, command = "run {command}, or start over with --overwrite", replace(request, continue_training=True)
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


def _check_recipe(run: Run) -> None:
    """Refuse cases of other plans before a process starts; the store refuses them whenever it opens one."""
    data = run.data
    silent = data.store.check(dict.fromkeys((*data.training, *data.validation)))
    if silent:
        say(f"note: {counted(silent, 'prepared case')} do not say which plans they were made for: {named(silent)}")


def _check_belonging(run: Run) -> None:
    request = run.request
    lines = []
    if request.validate or request.continue_training:
        lines += run.belonging.check_own(request.validate)
    if not request.validate:
        lines += run.belonging.check_beside()
    for line in lines:
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
    if batch % wanted and not request.validate:
        fewer = max(n for n in range(1, wanted) if batch % n == 0)
        raise GdmError(
            f"a batch of {batch} cannot be shared by {counted(wanted, 'process')} alike",
            file=f"plans {run.plans.name}",
            found=f"-num_gpus {wanted}",
            expected=f"a number that divides {batch}",
            remedy="train on fewer, or plan with a larger batch",
            command=command_line(replace(request, num_gpus=fewer)),
        )


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
