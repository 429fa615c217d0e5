"""gdmunet: self-configuring conditional 3D medical image generation in one network pass.

The names below are the public surface. Each is imported when it is first used, so ``import gdmunet`` loads nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gdmunet.version import __version__

if TYPE_CHECKING:
    from gdmunet.calls import compare, evaluate, new_dataset, plan_and_preprocess, predict, train
    from gdmunet.errors import GdmError
    from gdmunet.inference.predictor import Predictor
    from gdmunet.training.trainers.fidelity import FidelityTrainer
    from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer
    from gdmunet.training.trainers.trainer import Trainer

__all__ = [
    "DriftTrainer",
    "FidelityTrainer",
    "GDMTrainer",
    "GdmError",
    "Predictor",
    "Trainer",
    "__version__",
    "compare",
    "evaluate",
    "new_dataset",
    "plan_and_preprocess",
    "predict",
    "train",
]

_HOMES = {
    "GdmError": "gdmunet.errors",
    "Predictor": "gdmunet.inference.predictor",
    "Trainer": "gdmunet.training.trainers.trainer",
    "FidelityTrainer": "gdmunet.training.trainers.fidelity",
    "DriftTrainer": "gdmunet.training.trainers.gdm",
    "GDMTrainer": "gdmunet.training.trainers.gdm",
    **dict.fromkeys(("new_dataset", "plan_and_preprocess", "train", "predict", "evaluate", "compare"), "gdmunet.calls"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gdmunet' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
