"""The settings of trainers that drift, with their defaults."""

from __future__ import annotations

from typing import Literal

from gdmunet.training.settings import Settings


class DriftSettings(Settings):
    """Which tokens are compared, with which kernel, against how many real ones."""

    families: tuple[str, ...] = ("spatial", "local", "global")
    drift_levels: tuple[str, ...] | None = None
    """Names of the encoder's levels to use; none: all."""
    tokens_per_patch: int = 128
    minimum_tokens: int = 32
    """A token set with fewer generated tokens a step is left out: its field would be noise."""
    bank_patches: int = 256
    """Patches whose real tokens the feature bank holds; 0: no bank."""
    bank_tokens: int = 512
    """Real tokens of earlier patches that join the batch's own as positives, for every token set."""
    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    field: Literal["official", "sharp", "logkde", "score", "sinkhorn", "mmd"] = "official"
    kernel: Literal["laplace", "gaussian"] = "laplace"
    affinity_floor: float = 1e-6
    drift_normalisation: Literal["batch", "ema", "floored"] = "batch"
    """Bring each temperature's force to unit size by the batch's own, by a moving average, or not beyond a floor."""
    mask_self: bool = True
    drift_weight: float = 1.0
