"""Trainers with an encoder that are over in seconds."""

import torch

from gdmunet.training.loop.ema import weights_of
from gdmunet.training.patches.stream import PatchLoader
from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer

CPU = torch.device("cpu")


def short(kind, **changes):
    settings = {
        "epochs": 2, "iterations_per_epoch": 4, "learning_rate": 2e-3, "validation_patches": 2, "feature_start": 0.5,
        "bank_patches": 4, "tokens_per_patch": 32, "bank_tokens": 32, "minimum_tokens": 2,
    }  # fmt: skip
    if not issubclass(kind, DriftTrainer):
        settings = {k: v for k, v in settings.items() if "bank" not in k and "tokens" not in k}
    kept = {k: v for k, v in settings.items() if k not in kind.__dict__ or kind in (GDMTrainer,)}
    return type(f"Short{kind.__name__}", (kind,), {"__module__": __name__, **kept, **changes})


def trainer_of(toy, kind, configuration="3d_fullres"):
    plans, folders = toy
    return kind(plans, configuration, 0, folders, CPU)


def batch_for(trainer):
    return trainer.batch_of(PatchLoader(trainer.patch_source(trainer.training_cases, 1), None, 2, 0))


def weights(trainer):
    return {name: value.clone() for name, value in weights_of(trainer.network).items()}
