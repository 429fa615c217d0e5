"""The settings of trainers that drift, with their defaults."""

from __future__ import annotations

from typing import Literal

from gdmunet.training.trainers.settings import Settings


class DriftSettings(Settings):
    """Which tokens are compared, with which kernel, against how many real ones."""

    families: tuple[str, ...] = ("local", "global")
    """Kinds of tokens: ``spatial``, ``local``, ``global``. Spatial ones cost as much as the others together and bring
    less than half of what local ones do (documentation/benchmarks.md)."""
    drift_levels: tuple[str, ...] | None = None
    """Names of the encoder's levels to use; none named: those that `drift_stride` lets in."""
    drift_stride: int = 4
    """Largest distance in voxels between two places of a level that drifts; 64: all levels."""
    tokens_per_patch: int = 128
    minimum_tokens: int = 32
    """A token set with fewer generated tokens a step is left out: its field would be noise."""
    bank_patches: int = 256
    """Patches whose real tokens the feature bank holds; 0: no bank."""
    bank_tokens: int = 512
    """Real tokens of earlier patches that join the batch's own as positives, for every token set."""
    bank_side: Literal["both", "positives"] = "both"
    """Banked tokens stand for the rest of the data set: on both sides they cancel where a batch is real already, among
    the positives alone they pull each patch towards the average one."""
    pairs: Literal["masked", "kept", "unmatched"] = "masked"
    """A generated token and the real one at its place. ``masked``: neither repels itself nor is attracted by its twin;
    ``kept``: both count; ``unmatched``: itself is left out, its twin is not, as for independent samples."""
    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    field: Literal["official", "sharp", "logkde", "score", "sinkhorn", "mmd"] = "official"
    kernel: Literal["laplace", "gaussian"] = "laplace"
    sinkhorn_iterations: int = 3
    """Rounds of balancing under the field ``sinkhorn``."""
    pairing: Literal["pooled", "index"] = "pooled"
    """``pooled``: all tokens of a set and batch are one problem; ``index``: every place is one of its own over the
    patches, for registered or whole-volume input. The bank's tokens have no place: ``index`` wants `bank_patches` 0."""
    affinity_floor: float = 0.0
    """Least affinity of the drift; the authors' 1e-6 swamps the affinities of sets as large as pooled tokens are."""
    drift_normalisation: Literal["batch", "ema", "floored"] = "batch"
    """Bring each temperature's force to unit size by the batch's own, by a moving average, or not beyond a floor."""
    force_decay: float = 0.99
    """What the moving average of ``ema`` keeps of its past."""
    force_floor: float = 0.1
    """Forces below it are not enlarged under ``floored``."""
    block_elements: int = 2**24
    """Most distances held at once; fewer need less memory and more time, and change no number."""
    drift_weight: float = 1.0
