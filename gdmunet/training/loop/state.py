"""The state of a training as one value: made fresh, saved whole, and continued bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdmunet.atomic import atomic_file
from gdmunet.checkpoint import load_weights
from gdmunet.errors import GdmError
from gdmunet.foreign import check_zip, reason
from gdmunet.formats import FileFormat
from gdmunet.networks import checkpoint_stages
from gdmunet.provenance import UNKNOWN, ProvenanceSpec
from gdmunet.serialization import from_json, to_json
from gdmunet.training import distributed
from gdmunet.training.loop.ema import WeightAverage, copy_weights, weights_of
from gdmunet.training.loop.epoch import EpochMeter
from gdmunet.training.trainers.optimizers import load_optimizer
from gdmunet.training.trainers.settings import declared_default
from gdmunet.training.trainers.trainer import Trainer


def _upgrade_1_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 says by hashes what the state rests on, and when the best weights were; before, that is not known."""
    return {**content, "provenance": {}, "best_iteration": None}


def _upgrade_2_to_3(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 keeps the seconds of an epoch that was interrupted; earlier ones began to count anew."""
    return {**content, "epoch_seconds": 0.0, "epoch_waited": 0.0}


RESUME_FORMAT = FileFormat("resume state", (_upgrade_1_to_2, _upgrade_2_to_3))


_ANEW = "start over with --overwrite, or from weights that are there with -pretrained_weights as well"


class UnreadableStateError(GdmError):
    """A resume state that is damaged; the weights beside it may be whole."""


@contextlib.contextmanager
def _state(problem: str, file: Path) -> Iterator[None]:
    """Inside, whatever a damaged resume state raises is one error that names it."""
    try:
        yield
    except GdmError as error:
        error.located(file=file, remedy=_ANEW)
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UnreadableStateError(problem, file=file, found=reason(error), remedy=_ANEW) from error


@dataclass
class TrainingState:
    """Network, optimiser, averages and progress of a training.

    Attributes
    ----------
    network
        The generator that is trained.
    called
        The same weights as the hooks call them: compiled, or shared by several processes.
    iteration
        Finished optimiser steps.
    best_mae, mae_average
        Lowest moving average of the validation error, and the present one, in the target's unit.
    best_iteration
        Finished steps when the weights were the best; None: not known.
    meter
        Sums over the present epoch.
    """

    network: nn.Module
    called: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage
    iteration: int = 0
    best_mae: float = float("inf")
    mae_average: float | None = None
    best_iteration: int | None = None
    meter: EpochMeter = field(default_factory=EpochMeter)

    @classmethod
    def fresh(cls, trainer: Trainer) -> TrainingState:
        """Weights drawn from the trainer's seed; the trainer's own `prepare` draws after them."""
        torch.manual_seed(trainer.seed)
        device = trainer.device
        network = trainer.build_network().to(device)
        optimizer = trainer.build_optimizer(network)
        average = WeightAverage(network, trainer.ema_decay)
        scaler = torch.amp.GradScaler(device.type, enabled=trainer.precision_on(device) == "float16")
        if trainer.activation_checkpointing:
            checkpoint_stages(network)
        if distributed.world_size() > 1 and device.type == "cuda":
            # Statistics over the whole batch, as one process would have them.
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        trainer.prepare()
        return cls(network, _as_called(network, trainer), optimizer, scaler, average)

    def save(self, file: Path, trainer: Trainer, provenance: ProvenanceSpec = UNKNOWN) -> None:
        """Write ``resume.pt``: tensors and plain values alone, so that ``weights_only`` loading reads it.

        Every process calls it, and the first one writes: the sums of the epoch are those of all, and so are the GPUs'
        random numbers.
        """
        meter = EpochMeter.merged(distributed.gather(self.meter))
        cuda_random = distributed.gather(_cuda_random(trainer.device))
        if distributed.rank() > 0:
            return
        content: dict[str, Any] = {
            RESUME_FORMAT.key: RESUME_FORMAT.version,
            "settings": to_json(trainer.settings()),
            "iteration": self.iteration,
            "best_mae": self.best_mae,
            "mae_average": self.mae_average,
            "best_iteration": self.best_iteration,
            "provenance": to_json(provenance),
            "epoch_counts": meter.counts,
            "epoch_sums": meter.sums,
            "epoch_seconds": meter.seconds if meter.counts else 0.0,
            "epoch_waited": meter.waited if meter.counts else 0.0,
            "network": weights_of(self.network),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state,
            "average_steps": self.average.steps,
            "torch_random": torch.get_rng_state(),
            "cuda_random": [state for state in cuda_random if state is not None],
            "extra": trainer.extra_state(),
        }
        with atomic_file(file) as stream:
            torch.save(content, stream)

    def load(self, file: Path, trainer: Trainer, provenance: ProvenanceSpec = UNKNOWN) -> None:
        """Continue where `save` stood.

        Raises
        ------
        GdmError
            There is nothing to continue, or the settings or what `provenance` stands for have changed since.
        """
        content = _read(file)
        with _state("the resume state does not hold what continuing needs", file):
            _check_settings(trainer, content["settings"], file)
            _check_provenance(provenance, from_json(ProvenanceSpec, content["provenance"]), file)
            self._take(content, trainer)

    def _take(self, content: dict[str, Any], trainer: Trainer) -> None:
        copy_weights(self.network, content["network"])
        load_optimizer(self.optimizer, content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.average.load(content["average"], content["average_steps"])
        self.iteration = content["iteration"]
        self.best_mae, self.mae_average = content["best_mae"], content["mae_average"]
        self.best_iteration = content["best_iteration"]
        self.meter.counts, self.meter.sums = content["epoch_counts"], content["epoch_sums"]
        self.meter.before, self.meter.waited = content["epoch_seconds"], content["epoch_waited"]
        torch.set_rng_state(content["torch_random"])
        # One for each process. More processes than then: the others start from the seed.
        random = content["cuda_random"][distributed.rank() : distributed.rank() + 1]
        if trainer.device.type == "cuda" and random:
            torch.cuda.set_rng_state(random[0], trainer.device)
        trainer.load_extra_state(content["extra"])

    def load_pretrained(self, file: Path) -> None:
        """Start from the weights of a checkpoint of the same network shape."""
        weights = load_weights(file).state_dict
        own = weights_of(self.network)
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
        copy_weights(self.network, weights)
        self.average.load(weights, 0)


def changed_settings(saved: Mapping[str, Any], present: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Texts about the named settings (as JSON has them) that have changed."""
    return [
        f"{name} was {saved.get(name)}, is {present.get(name)}"
        for name in sorted(names)
        if saved.get(name) != present.get(name)
    ]


def _cuda_random(device: torch.device) -> torch.Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _as_called(network: nn.Module, trainer: Trainer) -> nn.Module:
    called: Any = torch.compile(network) if trainer.compile_network else network
    if distributed.world_size() > 1:
        places = [trainer.device.index] if trainer.device.type == "cuda" else None
        # Gradients lie in the buckets in which they are exchanged: they are not there twice.
        called = nn.parallel.DistributedDataParallel(
            called,
            device_ids=places,
            gradient_as_bucket_view=True,
            find_unused_parameters=trainer.trains_in_turns,
        )
    whole: nn.Module = called
    return whole


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise GdmError(
            "there is nothing to continue",
            file=file,
            found=f"no {file.name}",
            remedy="check trainer, plans, configuration and fold",
        )
    with _state("the resume state cannot be read", file):
        check_zip(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise UnreadableStateError("the file is not a resume state", found=type(content).__name__, remedy=_ANEW)
        return RESUME_FORMAT.upgrade(content)


def _check_provenance(present: ProvenanceSpec, theirs: ProvenanceSpec, file: Path) -> None:
    # The settings are compared one by one.
    differing = [name for name in theirs.differing(present) if name != "settings"]
    if differing:
        raise GdmError(
            f"the {' and '.join(differing)} have changed since the resume state was written",
            file=file,
            found=", ".join(f"{name} {vars(theirs)[name][:12]}" for name in differing),
            expected=", ".join(f"{name} {vars(present)[name][:12]}" for name in differing),
            remedy="put back what the fold was trained with, or start over with --overwrite",
        )


def _check_settings(trainer: Trainer, saved: dict[str, Any], file: Path) -> None:
    present = to_json(trainer.settings())
    # A setting that the file does not know came later: the run did what the setting's default still does.
    later = present.keys() - saved.keys()
    saved = saved | to_json({name: declared_default(type(trainer), name) for name in later})
    if changed := changed_settings(saved, present, {*saved, *present}):
        raise GdmError(
            "the trainer's settings have changed since the checkpoint",
            file=file,
            found="; ".join(changed),
            remedy="continue with the same settings, or start over with --overwrite",
        )
