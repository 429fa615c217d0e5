"""What a trainer saves: averaged weights to share, and everything that continuing bit for bit needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from gdmunet.atomic import atomic_path
from gdmunet.checkpoint import CheckpointMetadata, load_weights, save_weights
from gdmunet.errors import GdmError
from gdmunet.results import CheckpointName
from gdmunet.serialization import to_json
from gdmunet.training.loop.ema import copy_weights, weights_of

if TYPE_CHECKING:
    from pathlib import Path

    from gdmunet.training.trainers.trainer import Trainer


def save_weights_of(trainer: Trainer, name: CheckpointName) -> None:
    """Write the averaged weights as ``checkpoint_NAME.safetensors``."""
    metadata = CheckpointMetadata(
        trainer=type(trainer).__name__,
        plans=trainer.plans.name,
        configuration=trainer.configuration.name,
        fold=trainer.fold,
        epoch=trainer.epoch,
        iteration=trainer.iteration,
        settings=to_json(trainer.settings()),
        validation_mae=trainer.mae_average,
        sampler=trainer.sampler,
    )
    file = trainer.fold_folder.checkpoint(name)
    save_weights(file, trainer.average.state, trainer.network_spec, metadata)


def save_resume_state(trainer: Trainer) -> None:
    """Write ``resume.pt``: tensors and plain values alone, so that ``weights_only`` loading reads it."""
    content: dict[str, Any] = {
        "settings": to_json(trainer.settings()),
        "iteration": trainer.iteration,
        "best_mae": trainer.best_mae,
        "mae_average": trainer.mae_average,
        "epoch_counts": trainer.meter.counts,
        "epoch_sums": trainer.meter.sums,
        "network": weights_of(trainer.network),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "average": trainer.average.state,
        "average_steps": trainer.average.steps,
        "torch_random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "extra": trainer.extra_state(),
    }
    with atomic_path(trainer.fold_folder.resume) as temporary:
        torch.save(content, temporary)


def load_resume_state(trainer: Trainer) -> None:
    """Continue where `save_resume_state` stood.

    Raises
    ------
    GdmError
        There is nothing to continue, or the settings have changed since.
    """
    file = trainer.fold_folder.resume
    if not file.is_file():
        raise GdmError(
            "there is nothing to continue",
            file=file,
            found=f"no {file.name}",
            remedy="train without --c, or check trainer, plans, configuration and fold",
        )
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise GdmError(
            "the resume state cannot be read",
            file=file,
            found=str(error).splitlines()[0],
            remedy="start over with --overwrite",
        ) from error
    _check_settings(trainer, content["settings"], file)
    copy_weights(trainer.network, content["network"])
    trainer.optimizer.load_state_dict(content["optimizer"])
    trainer.scaler.load_state_dict(content["scaler"])
    trainer.average.load(content["average"], content["average_steps"])
    trainer.iteration = content["iteration"]
    trainer.best_mae, trainer.mae_average = content["best_mae"], content["mae_average"]
    trainer.meter.counts, trainer.meter.sums = content["epoch_counts"], content["epoch_sums"]
    torch.set_rng_state(content["torch_random"])
    if torch.cuda.is_available() and content["cuda_random"]:
        torch.cuda.set_rng_state_all(content["cuda_random"])
    trainer.load_extra_state(content["extra"])
    trainer.journal.keep_first(trainer.epoch)


def load_pretrained(trainer: Trainer, file: Path) -> None:
    """Start from the weights of a checkpoint of the same network shape."""
    weights = load_weights(file).state_dict
    own = weights_of(trainer.network)
    wrong = [
        f"{name}: {tuple(weights[name].shape) if name in weights else 'missing'} against {tuple(value.shape)}"
        for name, value in own.items()
        if name not in weights or weights[name].shape != value.shape
    ]
    if wrong:
        raise GdmError(
            "the pretrained weights belong to another network",
            file=file,
            found=f"{len(wrong)} tensors differ, first {wrong[:1]}",
            expected=f"{len(own)} tensors as in the plans",
            remedy="plan this data set with the plans of the pretrained model (same patch topology and widths)",
        )
    copy_weights(trainer.network, weights)
    trainer.average.load(weights, 0)


def changed_settings(saved: Mapping[str, Any], present: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """In words, those of the named settings (as JSON has them) that are not what they were."""
    return [
        f"{name} was {saved.get(name)}, is {present.get(name)}"
        for name in sorted(names)
        if saved.get(name) != present.get(name)
    ]


def _check_settings(trainer: Trainer, saved: dict[str, Any], file: Path) -> None:
    present = to_json(trainer.settings())
    if changed := changed_settings(saved, present, {*saved, *present}):
        raise GdmError(
            "the trainer's settings have changed since the checkpoint",
            file=file,
            found="; ".join(changed),
            remedy="continue with the same settings, or start over with --overwrite",
        )
