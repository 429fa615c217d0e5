"""Part 7: fidelity to two thirds of a training once, and from there a branch for each form of the method.

Every branch sees the same patches and the same learning rates; weights and predictions are kept, and scored later.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from gdmunet.encoders.loading import load_encoder
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.training.trainers.transport import (
    GDMTrainerTransport,
    GDMTrainerTransportPaired,
    PairedStatisticsTrainer,
)
from gpu_parts.course import Course
from gpu_parts.setting import Setting
from gpu_parts.stores import ResidentCases, fold_of, small

# In the order in which a deadline may end them.
BRANCHES: tuple[type[Trainer], ...] = (
    FidelityTrainer,
    GDMTrainerTransport,
    GDMTrainerTransportPaired,
    GDMTrainer,
    PairedStatisticsTrainer,
)
TRUNK, BRANCH = 4000, 2000
LEARNING_RATE = "0.001"


def run(setting: Setting) -> None:
    """The trunk, then a row and a file for each branch."""
    fold = fold_of(setting.cases(), "2d")
    fold = small(fold) if setting.dry else fold
    cases = ResidentCases.of(fold, setting.device, fold.configuration.patch_size)
    trunk = Course.fresh(setting, made(setting, FidelityTrainer, fold), fold, cases)
    trunk.train(lengths(setting)[0])
    setting.row("trunk", iterations=trunk.state.iteration, left=setting.left)
    for kind in BRANCHES:
        setting.attempt(kind.__name__, lambda kind=kind: branch(setting, kind, trunk))


def lengths(setting: Setting) -> tuple[int, int]:
    """Steps of the trunk and of a branch."""
    return setting.pick(TRUNK, 4), setting.pick(BRANCH, 2)


def made(setting: Setting, kind: type[Trainer], fold: FoldData) -> Trainer:
    """A trainer of one training in one go; its encoder, if it has one, joins where the branches begin."""
    trunk, steps = lengths(setting)
    changes = {"iterations": str(trunk + steps), "learning_rate": LEARNING_RATE, "ema_decay": "0.99"}
    if kind.uses_encoder:
        changes["feature_start"] = repr(trunk / (trunk + steps))
    loader = functools.partial(load_encoder, cache=Path("encoders"))
    trainer: Trainer = kind.derive(changes)(fold.configuration, fold.plans.dataset, setting.device, loader)
    return trainer


def branch(setting: Setting, kind: type[Trainer], trunk: Course) -> dict[str, object]:
    """Train a branch and keep its averaged weights and its predictions of the cases held out."""
    fold, left = trunk.fold, setting.left
    course = Course.fresh(setting, made(setting, kind, fold), fold, trunk.cases)
    course.follow(trunk)
    report = course.train(sum(lengths(setting)))
    if course.state.iteration < sum(lengths(setting)):
        return {"failed": "the deadline came first", "iterations": course.state.iteration}
    seconds = left - setting.left
    kept = {f"weights.{name}": value.cpu().contiguous() for name, value in course.state.average.state.items()}
    errors = []
    for name in fold.validation[: setting.pick(2, 1)]:
        found = course.predict(name)
        errors.append(course.body_mae(name, found))
        kept[f"prediction.{name}"] = torch.from_numpy(np.round(found).astype(np.int16))
    save_file(kept, setting.out / f"branch_{kind.__name__}.safetensors")
    return {
        "iterations": course.state.iteration,
        "mae_hu": float(np.mean(errors)),
        "ms_per_step": 1000 * seconds / lengths(setting)[1],
        "report": report,
    }
