"""Trained models in the results folder: find them, choose one, load one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdmunet import commands
from gdmunet.checkpoint import ONE_STEP, Checkpoint, SamplerSpec, load_network, load_weights
from gdmunet.dataset_names import dataset_number, is_dataset
from gdmunet.errors import GdmError
from gdmunet.networks import Generator
from gdmunet.plans import Plans, load_plans
from gdmunet.quantities import counted
from gdmunet.results import (
    CHECKPOINT_FILES,
    CHECKPOINT_NAMES,
    MODEL_LAYOUT,
    PLANS_FILE,
    CheckpointName,
    ModelFolder,
    ResultsFolder,
)


@dataclass(frozen=True)
class LoadedModel:
    """Networks of one model folder, one per fold, the plans that they were trained with, and their sampler.

    `realism` is the place of their dial that validation chose, of several folds the lowest; None: it chose none.
    """

    networks: list[Generator]
    plans: Plans
    configuration: str
    folds: tuple[str, ...]
    sampler: SamplerSpec = ONE_STEP
    realism: float | None = None

    def completed(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of a predictor, with the model's own realism if none is asked for."""
        return options | {"realism": self.realism} if options.get("realism") is None else options


def describe_model(model: ModelFolder) -> str:
    """The flags that choose a model, and its folds."""
    name = model.name
    folds = ", ".join(f"{fold} ({' '.join(names)})" for fold, names in model.trained_folds().items())
    number = dataset_number(model.dataset)
    return f"-d {number} -c {name.configuration} -tr {name.trainer} -p {name.plans}   folds {folds}"


def resolve_model(
    results_folder: Path,
    dataset: int | str | None = None,
    configuration: str | None = None,
    trainer: str | None = None,
    plans: str | None = None,
    *,
    folds: Sequence[str | int] | str | None = None,
    checkpoint: CheckpointName = "best",
) -> ModelFolder:
    """The one model that fits what is given.

    Parameters
    ----------
    folds, checkpoint
        Folds and checkpoint that will be loaded. Of several models that fit the names, those without them are left out,
        such as a training that was stopped early beside a finished one.

    Raises
    ------
    GdmError
        None or several fit: lists the models, each with the flags that choose it.
    """
    models = ResultsFolder(Path(results_folder)).models()
    fitting = [
        model
        for model in models
        if (dataset is None or is_dataset(model.dataset, dataset))
        and configuration in (None, model.name.configuration)
        and trainer in (None, model.name.trainer)
        and plans in (None, model.name.plans)
    ]
    loadable = [model for model in fitting if _has(model, folds, checkpoint)]
    # Where none can be loaded, the one of that name is given all the same: loading it says what it lacks.
    fitting = loadable or fitting
    if len(fitting) == 1:
        return fitting[0]
    if not models:
        # The name of a derived trainer's folder is not a name that training takes.
        known = dataset is not None and configuration is not None and trainer is None
        flags = ("-p", plans) if plans else ()
        command = commands.train(str(dataset), str(configuration), *flags) if known else None
        raise GdmError(
            "there is no trained model",
            file=Path(results_folder).resolve(),
            expected=f"{MODEL_LAYOUT}/fold_0/{CHECKPOINT_FILES['best']}",
            remedy=f"{'run {command}' if command else 'train one'}, or give its folder with --results or GDM_RESULTS",
            command=command,
        )
    lines = "".join(f"\n    {describe_model(model)}" for model in (fitting or models))
    raise GdmError(
        "several trained models fit" if fitting else "no trained model fits",
        file=Path(results_folder).resolve(),
        found=f"{counted(fitting or models, 'model')}:{lines}",
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
    model = ModelFolder(Path(model_folder))
    available = model.trained_folds()
    having = tuple(fold for fold, names in available.items() if checkpoint in names)
    wanted = having if folds is None else _fold_names(folds)
    missing = [fold for fold in wanted if fold not in having]
    if missing or not wanted:
        raise GdmError(
            f"fold {' '.join(missing)} has no checkpoint {checkpoint}" if missing else "no fold has this checkpoint",
            file=model.fold(missing[0] if missing else 0).checkpoint(checkpoint),
            found="; ".join(f"fold {fold}: {' '.join(names)}" for fold, names in available.items()) or "no fold at all",
            expected=CHECKPOINT_FILES[checkpoint],
            remedy="train that fold, or choose others with -f and -chk",
        )
    return wanted


def _fold_names(folds: Sequence[str | int] | str) -> tuple[str, ...]:
    return (folds,) if isinstance(folds, str) else tuple(str(fold) for fold in folds)


def _has(model: ModelFolder, folds: Sequence[str | int] | str | None, checkpoint: CheckpointName) -> bool:
    having = {fold for fold, names in model.trained_folds().items() if checkpoint in names}
    return bool(having) if folds is None else having.issuperset(_fold_names(folds))


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
    model = ModelFolder(Path(model_folder))
    if not model.plans.is_file():
        raise GdmError(
            "this is not a model folder",
            file=model_folder,
            found=f"no {model.plans.name} in it",
            expected=f"results/{MODEL_LAYOUT}",
            remedy="give the folder that holds fold_0, not a fold or the data set",
        )
    plans = load_plans(model.plans)
    chosen = choose_folds(model_folder, folds, checkpoint)
    files = [model.fold(fold).checkpoint(checkpoint) for fold in chosen]
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
    places = [loaded.metadata.realism for loaded in checkpoints if loaded.metadata.realism is not None]
    networks = [load_network(loaded) for loaded in checkpoints]
    return LoadedModel(networks, plans, name, chosen, sampler, min(places, default=None))


def _check_fits(checkpoint: Checkpoint, plans: Plans, configuration: str, file: Path) -> None:
    metadata = checkpoint.metadata
    facts = {
        "plans": (metadata.plans, plans.name),
        "configuration": (metadata.configuration, configuration),
        "condition channels": (checkpoint.network.condition_channels, len(plans.dataset.channels)),
        "dimensions": (checkpoint.network.dimensions, plans.configuration(configuration).dimensions),
    }
    for what, (trained, planned) in facts.items():
        if trained != planned:
            raise GdmError(
                f"the checkpoint does not belong to the plans beside it: {what}",
                file=file,
                found=trained,
                expected=planned,
                remedy=f"put back the {PLANS_FILE} that it was trained with, or train again",
            )
