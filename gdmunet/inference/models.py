"""Trained models in the results folder: find them, choose one, load one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from gdmunet.checkpoint import Checkpoint, Sampler, load_network, load_weights
from gdmunet.errors import GdmError
from gdmunet.networks import Generator
from gdmunet.plans import Plans, load_plans

CheckpointName = Literal["best", "final", "latest"]
CHECKPOINT_NAMES: tuple[CheckpointName, ...] = get_args(CheckpointName)


@dataclass(frozen=True)
class ModelFolder:
    """A trained model: ``results/<dataset>/<trainer>__<plans>__<configuration>``.

    `folds` maps each fold that has a checkpoint to the names of those it has.
    """

    path: Path
    dataset: str
    trainer: str
    plans: str
    configuration: str
    folds: dict[str, tuple[CheckpointName, ...]]

    def __str__(self) -> str:
        number = self.dataset.removeprefix("Dataset").split("_")[0]
        folds = ", ".join(f"{fold} ({' '.join(names)})" for fold, names in self.folds.items())
        return f"-d {number} -c {self.configuration} -tr {self.trainer} -p {self.plans}   folds {folds}"


@dataclass(frozen=True)
class LoadedModel:
    """Networks of one model folder, one a fold, the plans that they were trained with, and how they are sampled."""

    networks: list[Generator]
    plans: Plans
    configuration: str
    folds: tuple[str, ...]
    sampler: Sampler = "one_step"


def checkpoint_file(model_folder: Path, fold: str, checkpoint: CheckpointName) -> Path:
    """Where a fold's weights lie."""
    return Path(model_folder) / f"fold_{fold}" / f"checkpoint_{checkpoint}.safetensors"


def find_models(results_folder: Path) -> list[ModelFolder]:
    """All models with at least one checkpoint, sorted by their path."""
    models = []
    for path in sorted(Path(results_folder).glob("Dataset[0-9][0-9][0-9]_*/*__*__*")):
        parts = path.name.split("__")
        folds = _folds_of(path)
        if len(parts) == 3 and folds and (path / "plans.json").is_file():
            models.append(ModelFolder(path, path.parent.name, parts[0], parts[1], parts[2], folds))
    return models


def resolve_model(
    results_folder: Path,
    dataset: int | str | None = None,
    configuration: str | None = None,
    trainer: str | None = None,
    plans: str | None = None,
) -> ModelFolder:
    """The one model that fits what is given.

    Raises
    ------
    GdmError
        None or several fit: lists the models, each with the flags that choose it.
    """
    models = find_models(results_folder)
    fitting = [
        model
        for model in models
        if (dataset is None or _is_dataset(model.dataset, str(dataset)))
        and configuration in (None, model.configuration)
        and trainer in (None, model.trainer)
        and plans in (None, model.plans)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not models:
        raise GdmError(
            "there is no trained model",
            file=Path(results_folder).resolve(),
            expected="DatasetXXX_Name/<Trainer>__<Plans>__<configuration>/fold_0/checkpoint_best.safetensors",
            remedy="train one with gdm_train, or give the right folder with --results or GDM_RESULTS",
        )
    lines = "".join(f"\n    {model}" for model in (fitting or models))
    raise GdmError(
        "several trained models fit" if fitting else "no trained model fits",
        file=Path(results_folder).resolve(),
        found=f"{len(fitting or models)} models:{lines}",
        expected="exactly one",
        remedy="choose one by its flags, or give its folder with -m",
    )


def choose_folds(
    model_folder: Path, folds: Sequence[str | int] | str | None, checkpoint: CheckpointName
) -> tuple[str, ...]:
    """The folds asked for, or all that have this checkpoint.

    Raises
    ------
    GdmError
        One that was asked for is not there, or none is.
    """
    available = _folds_of(Path(model_folder))
    having = tuple(fold for fold, names in available.items() if checkpoint in names)
    wanted = having if folds is None else (folds,) if isinstance(folds, str) else tuple(str(fold) for fold in folds)
    missing = [fold for fold in wanted if fold not in having]
    if missing or not wanted:
        raise GdmError(
            f"fold {' '.join(missing)} has no checkpoint {checkpoint}" if missing else "no fold has this checkpoint",
            file=checkpoint_file(model_folder, missing[0] if missing else "0", checkpoint),
            found="; ".join(f"fold {fold}: {' '.join(names)}" for fold, names in available.items()) or "no fold at all",
            expected=f"checkpoint_{checkpoint}.safetensors",
            remedy="train that fold, or choose others with -f and -chk",
        )
    return wanted


def load_model(
    model_folder: Path, folds: Sequence[str | int] | str | None = None, checkpoint: CheckpointName = "best"
) -> LoadedModel:
    """Load the networks of a model folder and check that they belong to its plans.

    Raises
    ------
    GdmError
        No model folder, plans of another version, missing or foreign checkpoints.
    """
    if checkpoint not in CHECKPOINT_NAMES:
        raise GdmError("unknown checkpoint", found=checkpoint, expected=", ".join(CHECKPOINT_NAMES))
    if not (Path(model_folder) / "plans.json").is_file():
        raise GdmError(
            "this is no model folder",
            file=model_folder,
            found="no plans.json in it",
            expected="results/DatasetXXX_Name/<Trainer>__<Plans>__<configuration>",
            remedy="give the folder that holds fold_0, not a fold or the data set",
        )
    plans = load_plans(Path(model_folder) / "plans.json")
    chosen = choose_folds(model_folder, folds, checkpoint)
    files = [checkpoint_file(model_folder, fold, checkpoint) for fold in chosen]
    checkpoints = [load_weights(file) for file in files]
    name = checkpoints[0].metadata.configuration
    sampler = checkpoints[0].metadata.sampler
    for file, loaded in zip(files, checkpoints, strict=True):
        _check_fits(loaded, plans, name, file)
        if loaded.metadata.sampler != sampler:
            raise GdmError(
                "the folds are sampled in different ways",
                file=file,
                found=loaded.metadata.sampler,
                expected=sampler,
                remedy="predict these folds one by one (-f)",
            )
    return LoadedModel([load_network(loaded) for loaded in checkpoints], plans, name, chosen, sampler)


def _check_fits(checkpoint: Checkpoint, plans: Plans, configuration: str, file: Path) -> None:
    metadata = checkpoint.metadata
    facts = {
        "plans": (metadata.plans, plans.name),
        "configuration": (metadata.configuration, configuration),
        "condition channels": (checkpoint.network.condition_channels, len(plans.dataset.channels)),
        "dimensions": (checkpoint.network.dimensions, plans.configuration(configuration).dimensions),
    }
    for what, (found, expected) in facts.items():
        if found != expected:
            raise GdmError(
                f"the checkpoint does not belong to the plans beside it: {what}",
                file=file,
                found=found,
                expected=expected,
                remedy="put back the plans.json that it was trained with, or train again",
            )


def _folds_of(model_folder: Path) -> dict[str, tuple[CheckpointName, ...]]:
    folds: dict[str, tuple[CheckpointName, ...]] = {}
    for path in sorted(model_folder.glob("fold_*")):
        fold = path.name.removeprefix("fold_")
        names = tuple(name for name in CHECKPOINT_NAMES if checkpoint_file(model_folder, fold, name).is_file())
        if names:
            folds[fold] = names
    return folds


def _is_dataset(name: str, wanted: str) -> bool:
    if wanted.isdigit():
        return name.startswith(f"Dataset{int(wanted):03d}_")
    return wanted in (name, name.split("_", 1)[1])
