"""Part 6: normalisation layers: the error after a short training, and how far two window grids disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gdmunet.training.trainers.fidelity import FidelityTrainer
from gpu_parts.course import Course
from gpu_parts.setting import Setting
from gpu_parts.stores import ResidentCases, fold_of, small

NORMS = ("none", "batch", "instance")
ITERATIONS = 600


def run(setting: Setting) -> None:
    """A row for each layer: the plain network, half of its planned thickness in a patch."""
    for norm in NORMS:
        setting.attempt(norm, lambda norm=norm: measure(setting, norm))


def measure(setting: Setting, norm: str) -> dict[str, object]:
    """Body MAE of the cases held out, and the mean difference of two positions of the window grid, in HU."""
    fold = fold_of(setting.cases(), "3d_fullres")
    fold = small(fold) if setting.dry else fold
    whole = fold.configuration
    patch = whole.patch_size if setting.dry else (whole.patch_size[0] // 2, *whole.patch_size[1:])
    network = replace(whole.network, norm=norm)  # type: ignore[arg-type]
    fold = replace(fold, configuration=replace(whole, network=network, patch_size=patch))
    steps = setting.pick(ITERATIONS, 2)
    kind = FidelityTrainer.derive({"iterations": str(steps), "learning_rate": "0.001", "ema_decay": "0.99"})
    trainer = kind(fold.configuration, fold.plans.dataset, setting.device)
    cases = ResidentCases.of(fold, setting.device, patch)
    course = Course.fresh(setting, trainer, fold, cases)
    course.train(steps)
    errors, offsets = [], []
    for name in fold.validation[: setting.pick(2, 1)]:
        first, second = (course.predict(name, offset) for offset in ((0, 0, 0), tuple(part // 4 for part in patch)))
        errors.append(course.body_mae(name, first))
        offsets.append(float(np.abs(first - second)[course.prepared(name).mask].mean()))
    return {
        "iterations": course.state.iteration, "patch": patch, "mae_hu": float(np.mean(errors)),
        "offset_hu": float(np.mean(offsets)), "cases": fold.validation,
    }  # fmt: skip
