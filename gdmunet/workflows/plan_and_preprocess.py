"""From raw data sets to prepared cases: fingerprint, plans, preprocessing, each alone or all in one."""

from __future__ import annotations

import torch

from gdmunet.dataset import find_dataset
from gdmunet.device import find_device
from gdmunet.device_memory import device_memory
from gdmunet.encoders.choice import AUTO, EncoderOptions
from gdmunet.encoders.download import DownloadOptions
from gdmunet.paths import Folders, downloads_allowed
from gdmunet.plans import Plans, find_plans
from gdmunet.preprocessing import fingerprint as fingerprints
from gdmunet.preprocessing.planned_encoder import WantedEncoder
from gdmunet.preprocessing.planned_step import largest_memory
from gdmunet.preprocessing.planner import format_reasons
from gdmunet.preprocessing.planning_options import PlanningOptions
from gdmunet.progress import say
from gdmunet.quantities import counted
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows import preprocess as preparation
from gdmunet.workflows.plan import run_planning
from gdmunet.workflows.requests.planning import (
    ExtractFingerprintRequest,
    PlanAndPreprocessRequest,
    PlanExperimentRequest,
    PlanningRequest,
    PreprocessRequest,
)
from gdmunet.workflows.requests.shared import DEFAULT_TRAINER


def extract_fingerprint(request: ExtractFingerprintRequest, folders: Folders) -> list[fingerprints.Fingerprint]:
    """Measure the training cases of each data set.

    Raises
    ------
    GdmError
        Unknown data set, or cases that cannot be read or do not fit together.
    """
    return [_extract(dataset, request, folders) for dataset in request.dataset]


def plan_experiment(request: PlanExperimentRequest, folders: Folders) -> list[Plans]:
    """Plan each data set from its fingerprint, and say why.

    Raises
    ------
    GdmError
        Unknown data set, trainer or encoder, no fingerprint, or planning is impossible.
    """
    return [_plan(dataset, request, folders) for dataset in request.dataset]


def preprocess(request: PreprocessRequest, folders: Folders) -> list[preparation.PreparedFolder]:
    """Prepare the training cases of each data set for its planned configurations.

    Raises
    ------
    GdmError
        Unknown data set or plans, or a case that cannot be prepared; finished cases stay.
    """
    done = []
    for dataset in request.dataset:
        name = find_dataset(folders.raw, dataset).name
        done += _preprocess(find_plans(folders.preprocessed / name, request.plans), request, folders)
    return done


def plan_and_preprocess(request: PlanAndPreprocessRequest, folders: Folders) -> list[Plans]:
    """Measure, plan and prepare each data set.

    Raises
    ------
    GdmError
        The errors of the three steps.
    """
    made = []
    for dataset in request.dataset:
        _extract(dataset, request, folders)
        plans = _plan(dataset, request, folders)
        if request.preprocess:
            _preprocess(plans, request, folders)
        made.append(plans)
    return made


def _extract(
    dataset: str, request: ExtractFingerprintRequest | PlanAndPreprocessRequest, folders: Folders
) -> fingerprints.Fingerprint:
    dataset_folder = find_dataset(folders.raw, dataset)
    fingerprint = fingerprints.extract_fingerprint(
        dataset_folder,
        folders.preprocessed / dataset_folder.name,
        request.processes,
        request.show_progress,
        verify=request.verify_dataset_integrity,
    )
    say(f"{dataset_folder.name}: fingerprint of {counted(fingerprint.cases, 'training case')}")
    return fingerprint


def _plan(dataset: str, request: PlanExperimentRequest | PlanAndPreprocessRequest, folders: Folders) -> Plans:
    device, served = find_device(request.device), _served(request)
    dataset_folder = find_dataset(folders.raw, dataset)
    options = PlanningOptions(
        preset=request.planner,
        footprint=largest_memory([StepMemory(kind) for kind in served]),
        choose=_encoder_wish(request, folders, device) if served[-1].uses_encoder else None,
        trainer=" and ".join(kind.__name__ for kind in served),
        precision=served[0].precision_on(device),
        memory_budget_gb=request.gpu_memory_target or _free_budget(request, device),
        name=request.overwrite_plans_name,
        configurations=request.configuration,
        target_spacing=request.overwrite_target_spacing,
    )
    plans = run_planning(dataset_folder, folders.preprocessed / dataset_folder.name, options)
    say(f"{plans.dataset_name}: plans {plans.name} with {', '.join(plans.configurations)}\n\n{format_reasons(plans)}\n")
    return plans


def _free_budget(request: PlanningRequest, device: torch.device) -> float | None:
    """GB of the GPU for plain; the residual presets and tiny are made for a memory of their own."""
    if request.planner != "plain" or device.type != "cuda":
        return None
    return device_memory(device).usable / 1e9


def _served(request: PlanningRequest) -> list[type[Trainer]]:
    """The trainers whose steps must fit: with an encoder that the named one does not use, the one that needs it too."""
    named = find_trainer(request.trainer)
    if named.uses_encoder or (request.encoder is None and request.encoder_path is None):
        return [named]
    return [named, find_trainer(DEFAULT_TRAINER)]


def _encoder_wish(request: PlanningRequest, folders: Folders, device: torch.device) -> WantedEncoder:
    options = EncoderOptions(
        folders.encoders,
        request.encoder_path,
        allow_download=downloads_allowed(),
        allow_large=device.type != "cpu",
        trust_checkpoint=request.trust_checkpoint,
        download=DownloadOptions(show_progress=request.show_progress),
    )
    return WantedEncoder(request.encoder or AUTO, options)


def _preprocess(
    plans: Plans, request: PreprocessRequest | PlanAndPreprocessRequest, folders: Folders
) -> list[preparation.PreparedFolder]:
    wanted = request.configuration or plans.configurations
    prepared = []
    for configuration in [name for name in wanted if name in plans.configurations]:
        done = preparation.preprocess(
            folders.raw / plans.dataset_name,
            folders.preprocessed / plans.dataset_name,
            plans,
            configuration,
            request.processes,
            request.show_progress,
            clean=request.clean,
        )
        say(
            f"{configuration}: {counted(done.prepared, 'case')} prepared, {len(done.unchanged)} unchanged: "
            f"{done.folder}"
        )
        prepared.append(done)
    return prepared
