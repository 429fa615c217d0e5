"""The settings that every trainer has, with their defaults."""

from __future__ import annotations

from typing import Literal

import torch

from gdmunet.device import Precision, default_precision
from gdmunet.training.trainers.schedule import learning_rate_factor
from gdmunet.training.trainers.settings import Settings


class TrainerSettings(Settings):
    """Length, optimiser, precision, patches and augmentation of a training."""

    epochs: int = 400
    iterations_per_epoch: int = 250
    iterations: int | None = None
    """Total optimiser steps; None: epochs times iterations_per_epoch."""
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    warmup_share: float = 0.01
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["cosine", "poly"] = "cosine"
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    accumulation: int = 1
    """Batches per step; their gradients are averaged."""
    precision: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    compile_network: bool = False
    activation_checkpointing: bool = False
    body_share: float = 0.8
    """Share of patches that are centred on a body voxel."""
    rotation: float = 15.0
    spatial_probability: float = 0.2
    mirror: bool = True
    intensity_augmentation: bool = True
    validation_patches: int = 16
    save_minutes: float = 10.0
    seed: int = 12345

    @property
    def total_iterations(self) -> int:
        """Optimiser steps of the whole training."""
        return self.length()

    @classmethod
    def length(cls) -> int:
        """Optimiser steps of a whole training of this class."""
        return cls.iterations or cls.epochs * cls.iterations_per_epoch

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole training; the last may be shorter."""
        return -(-self.total_iterations // self.iterations_per_epoch)

    def epoch_of(self, iteration: int) -> int:
        """0-based number of the epoch that an iteration belongs to."""
        return iteration // self.iterations_per_epoch

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of a step."""
        warmup = round(self.warmup_share * self.total_iterations)
        return self.learning_rate * learning_rate_factor(iteration, self.total_iterations, warmup, self.schedule)

    @classmethod
    def precision_on(cls, device: torch.device) -> Precision:
        """Precision of the forward pass; ``auto`` takes the best that the device has."""
        return default_precision(device) if cls.precision == "auto" else cls.precision
