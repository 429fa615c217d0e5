"""Plans of data sets, alone or between fingerprint and preprocessing; a trainer's step is counted for them."""

from __future__ import annotations

from pathlib import Path

import torch

from gdmunet.consents import allow, source_of
from gdmunet.dataset import find_dataset
from gdmunet.device import find_device
from gdmunet.device_memory import device_memory
from gdmunet.encoders.choice import AUTO, EncoderOptions
from gdmunet.encoders.download import DownloadOptions
from gdmunet.encoders.loading import pickle_of, weight_file
from gdmunet.encoders.registry import parse_spec
from gdmunet.paths import Folders, downloads_allowed
from gdmunet.plans import Plans
from gdmunet.preprocessing.planned_encoder import WantedEncoder
from gdmunet.preprocessing.planned_step import largest_memory
from gdmunet.preprocessing.planner import format_reasons
from gdmunet.preprocessing.planning_options import PlanningOptions
from gdmunet.progress import say
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.encoder import EncoderTrainer
from gdmunet.training.trainers.planned_sizes import PlanDrift
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.workflows.machine_choice import MachineChoice
from gdmunet.workflows.plan import run_planning
from gdmunet.workflows.preparation import fingerprint_of, prepared_by
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest, PlanExperimentRequest, PlanningRequest
from gdmunet.workflows.requests.shared import DEFAULT_TRAINER


def plan_experiment(request: PlanExperimentRequest, folders: Folders) -> list[Plans]:
    """Plan each data set from its fingerprint, and say why.

    Raises
    ------
    GdmError
        Unknown data set, trainer or encoder, no fingerprint, or planning is impossible.
    """
    return [_plan(dataset, request, folders) for dataset in request.dataset]


def plan_and_preprocess(request: PlanAndPreprocessRequest, folders: Folders) -> list[Plans]:
    """Measure, plan and prepare each data set.

    Raises
    ------
    GdmError
        The errors of the three steps.
    """
    made = []
    for dataset in request.dataset:
        fingerprint_of(dataset, request, folders)
        plans = _plan(dataset, request, folders)
        if request.preprocess:
            prepared_by(plans, request, folders)
        made.append(plans)
    return made


def _plan(dataset: str, request: PlanExperimentRequest | PlanAndPreprocessRequest, folders: Folders) -> Plans:
    device, served = find_device(request.device), _served(request)
    dataset_folder, choice = find_dataset(folders.raw, dataset), MachineChoice.of(request, device)
    options = PlanningOptions(
        preset=choice.preset,
        footprint=largest_memory([StepMemory(kind) for kind in served]),
        choose=_encoder_wish(request, folders, device, served[-1]) if issubclass(served[-1], EncoderTrainer) else None,
        plan_drift=PlanDrift(served[-1]) if issubclass(served[-1], EncoderTrainer) else None,
        trainer=" and ".join(kind.__name__ for kind in served),
        precision=served[0].precision_on(device),
        memory_budget_gb=request.gpu_memory_target,
        free_memory_gb=device_memory(device).free / 1e9 if device.type == "cuda" else None,
        gpus=request.num_gpus,
        name=request.overwrite_plans_name,
        configurations=request.configuration,
        target_spacing=request.overwrite_target_spacing,
        accepted=request.accept,
        splits=request.splits,
        length=choice.length(request, device, served[0]),
        chosen_because=choice.because,
    )
    plans = run_planning(dataset_folder, folders.preprocessed / dataset_folder.name, options)
    _allow_named(plans, folders)
    say(f"{plans.dataset_name}: plans {plans.name} with {', '.join(plans.configurations)}\n\n{format_reasons(plans)}\n")
    return plans


def _allow_named(plans: Plans, folders: Folders) -> None:
    """The command line named the code of an encoder, or trusted its pickle: training may run it, as it is."""
    for encoder in (one.encoder for one in plans.configurations.values()):
        if encoder is None:
            continue
        named = parse_spec(encoder.spec)
        if named.family is None:
            allow(source_of(named.module), folders.consents)
        file = weight_file(named, folders.encoders, Path(encoder.file) if encoder.file else None)
        if encoder.trusted and (pickle := pickle_of(named, file)) is not None:
            allow(pickle, folders.consents)


def _served(request: PlanningRequest) -> list[type[Trainer]]:
    """The trainers whose steps must fit: with an encoder that the named one does not use, the one that needs it too."""
    named = find_trainer(request.trainer)
    if named.uses_encoder or (request.encoder is None and request.encoder_path is None):
        return [named]
    return [named, find_trainer(DEFAULT_TRAINER)]


def _encoder_wish(
    request: PlanningRequest, folders: Folders, device: torch.device, kind: type[EncoderTrainer]
) -> WantedEncoder:
    options = EncoderOptions(
        folders.encoders,
        request.encoder_path,
        allow_download=downloads_allowed(),
        allow_large=device.type != "cpu",
        trust_checkpoint=request.trust_checkpoint,
        download=DownloadOptions(show_progress=request.show_progress),
    )
    return WantedEncoder(request.encoder or AUTO, options, kind.used_levels)
