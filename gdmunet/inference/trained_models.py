"""Trained models in the results folder: find them, choose one, load one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdmunet import commands
from gdmunet.checkpoint import Checkpoint, load_metadata, load_network, load_weights
from gdmunet.dataset_names import dataset_number, is_dataset
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.networks import Generator
from gdmunet.plans import Plans, load_plans
from gdmunet.provenance import plans_hash
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
from gdmunet.sampler_spec import ONE_STEP, SamplerSpec


@dataclass(frozen=True)
class LoadedModel:
    """Networks of one model folder, one per fold, the plans that they were trained with, and their sampler.

    `realism` is the place of their dial that validation chose, of several folds the lowest; None: it chose none.
    `weights` is each fold's sha256; `notes` are lines for people: folds that are unfinished or left out, and what could
    not be compared.
    """

    networks: list[Generator]
    plans: Plans
    configuration: str
    folds: tuple[str, ...]
    sampler: SamplerSpec = ONE_STEP
    realism: float | None = None
    weights: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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


def folds_with(model: ModelFolder, checkpoint: CheckpointName) -> tuple[str, ...]:
    """Every fold that has this checkpoint, ``all`` as well."""
    return tuple(fold for fold, names in model.trained_folds().items() if checkpoint in names)


def choose_folds(
    model_folder: Path, folds: Sequence[str | int] | str | None, checkpoint: CheckpointName
) -> tuple[str, ...]:
    """The folds asked for, or all numbered ones that have this checkpoint; without such a fold, the fold ``all``.

    Raises
    ------
    GdmError
        One that was asked for is not there, or none is.
    """
    model = ModelFolder(Path(model_folder))
    available = model.trained_folds()
    having = folds_with(model, checkpoint)
    # The fold `all` has seen the cases that the others hold out: it is another model, averaged with them on demand.
    wanted = tuple(fold for fold in having if fold != "all") or having if folds is None else _fold_names(folds)
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
        raise GdmError(
            "unknown checkpoint", found=checkpoint, expected=", ".join(CHECKPOINT_NAMES), remedy="choose one of these"
        )
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
        _check_alike(checkpoints[0], loaded, file)
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
    notes = (*_left_out(model, chosen, folds, checkpoint), *_unfinished(model, chosen, checkpoints))
    notes += _not_compared(chosen, checkpoints)
    weights = {fold: loaded.sha256 for fold, loaded in zip(chosen, checkpoints, strict=True)}
    return LoadedModel(networks, plans, name, chosen, sampler, min(places, default=None), weights, notes)


def _check_fits(checkpoint: Checkpoint, plans: Plans, configuration: str, file: Path) -> None:
    metadata = checkpoint.metadata
    with reading("the checkpoint does not fit its plans", file):
        planned_dimensions = plans.configuration(configuration).dimensions
    facts = {
        "plans": (metadata.plans, plans.name),
        "configuration": (metadata.configuration, configuration),
        "condition channels": (checkpoint.network.condition_channels, len(plans.dataset.channels)),
        "dimensions": (checkpoint.network.dimensions, planned_dimensions),
    }
    if metadata.provenance.plans is not None:
        facts["spacing, intensities or network"] = (
            f"settings {metadata.provenance.plans[:12]}",
            f"settings {plans_hash(plans, configuration)[:12]}",
        )
    for what, (trained, planned) in facts.items():
        if trained != planned:
            raise GdmError(
                f"the checkpoint does not belong to the plans beside it: {what}",
                file=file,
                found=trained,
                expected=planned,
                remedy=f"put back the {PLANS_FILE} that it was trained with, or train again",
            )


def _check_alike(first: Checkpoint, other: Checkpoint, file: Path) -> None:
    """Refuse to average folds of different trainers or encoders; their plans are those beside them."""
    theirs, present = other.metadata.provenance, first.metadata.provenance
    differing = [name for name in theirs.differing(present) if name in ("trainer", "encoder")]
    if differing:
        raise GdmError(
            f"the folds were trained with another {' and another '.join(differing)}, so they are not one model",
            file=file,
            found=f"fold {other.metadata.fold}, unlike fold {first.metadata.fold}",
            remedy="predict these folds one by one (-f)",
        )


def _left_out(
    model: ModelFolder, chosen: Sequence[str], asked: Sequence[str | int] | str | None, checkpoint: CheckpointName
) -> tuple[str, ...]:
    others = [fold for fold in folds_with(model, checkpoint) if fold not in chosen] if asked is None else []
    return tuple(
        f"note: fold {fold} is not averaged with the others; -f {fold} predicts with it alone" for fold in others
    )


def _unfinished(model: ModelFolder, chosen: Sequence[str], checkpoints: Sequence[Checkpoint]) -> tuple[str, ...]:
    """Folds that have a state to continue from and no final weights."""
    notes = []
    for fold, loaded in zip(chosen, checkpoints, strict=True):
        folder = model.fold(fold)
        if not folder.resume.is_file() or folder.checkpoint("final").is_file():
            continue
        latest = folder.checkpoint("latest")
        reached = (load_metadata(latest) if latest.is_file() else loaded.metadata).iteration
        total = _planned_iterations(loaded.metadata.settings)
        notes.append(
            f"note: fold {fold} is unfinished: its training stands at iteration {reached}"
            f"{f' of {total}' if total else ''}, and its weights here are of iteration {loaded.metadata.iteration}"
        )
    return tuple(notes)


def _planned_iterations(settings: Mapping[str, Any]) -> int | None:
    """Length of a training by its stored settings."""
    if settings.get("iterations"):
        return int(settings["iterations"])
    epochs, steps = settings.get("epochs"), settings.get("iterations_per_epoch")
    return epochs * steps if isinstance(epochs, int) and isinstance(steps, int) else None


def _not_compared(chosen: Sequence[str], checkpoints: Sequence[Checkpoint]) -> tuple[str, ...]:
    earlier = [fold for fold, one in zip(chosen, checkpoints, strict=True) if one.metadata.provenance.plans is None]
    if not earlier:
        return ()
    return (
        f"note: {'folds' if len(earlier) > 1 else 'fold'} {', '.join(earlier)} came from an earlier version of "
        f"gdmunet; whether {PLANS_FILE} is that of the training could not be compared",
    )
