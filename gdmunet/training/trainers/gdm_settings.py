"""The settings of trainers that drift, with their defaults."""

from __future__ import annotations

from typing import Literal

from gdmunet.training.drift.moving_transport import MomentOptions
from gdmunet.training.drift.options import DriftOptions, FieldName, ForceNormalisation, Kernel
from gdmunet.training.trainers.settings import Settings


class TokenSettings(Settings):
    """Settings of the tokens that are read from an encoder's features."""

    families: tuple[str, ...] = ("local", "global")
    """Kinds of tokens: ``spatial``, ``local``, ``global``. Spatial ones cost as much as the others together and bring
    less than half of what local ones do (documentation/benchmarks.md)."""
    drift_levels: tuple[str, ...] | None = None
    """Names of the encoder's levels to use; none named: those that `drift_stride` lets in."""
    drift_stride: int = 4
    """Largest distance in voxels between two places of a level that drifts; 64: all levels."""
    tokens_per_patch: int = 128
    """Most tokens of a set per patch."""
    minimum_tokens: int = 32
    """Fewest generated tokens per step with which a token set takes part: the field of fewer would be noise. Global
    tokens, one per patch, so join from batches of 32 patches on."""


class DriftSettings(TokenSettings):
    """Settings of the force between generated and real tokens."""

    bank_patches: int = 256
    """Patches whose real tokens the feature bank holds; 0: no bank, as under the field ``transport``."""
    bank_tokens: int = 512
    """Real tokens of earlier patches that join the batch's own as positives, for every token set."""
    bank_side: Literal["both", "positives"] = "both"
    """Banked tokens stand for the rest of the data set: on both sides they cancel where a batch is real already, among
    the positives alone they pull each patch towards the average one."""
    pairs: Literal["masked", "kept", "unmatched"] = "masked"
    """A generated token and the real one at its place. ``masked``: neither repels itself nor is attracted by its twin;
    ``kept``: both count; ``unmatched``: itself is left out, its twin is not, as for independent samples."""
    temperatures: tuple[float, ...] = DriftOptions.temperatures
    """Widths of the kernel in units of the mean distance between tokens."""
    field: FieldName | Literal["transport"] = DriftOptions.field
    """Which way tokens drift (documentation/explanation/drift.md): by kernels between samples, or by ``transport``
    between running Gaussians, which knows neither bank, pairs, kernel nor normalisation."""
    kernel: Kernel = DriftOptions.kernel
    """How attraction falls with the distance."""
    sinkhorn_iterations: int = DriftOptions.sinkhorn_iterations
    """Rounds of balancing under the field ``sinkhorn``."""
    pairing: Literal["pooled", "index"] = "pooled"
    """``pooled``: all tokens of a set and batch are one problem; ``index``: every place is one of its own over the
    patches, for registered or whole-volume input. The bank's tokens have no place: ``index`` wants `bank_patches` 0."""
    affinity_floor: float = DriftOptions.affinity_floor
    """Least affinity of the drift; the authors' 1e-6 swamps the affinities of sets as large as pooled tokens are."""
    drift_normalisation: ForceNormalisation = DriftOptions.normalisation
    """Bring each temperature's force to unit size by the batch's own, by a moving average, not beyond a floor, or by
    the mean of the first steps alone (``frozen``): then it fades as the distributions meet."""
    force_decay: float = DriftOptions.force_decay
    """Share of its past that the moving average of ``ema`` keeps."""
    force_steps: int = 100
    """Steps over whose mean ``frozen`` divides the force."""
    force_floor: float = DriftOptions.force_floor
    """Forces below it are not enlarged under ``floored``."""
    block_elements: int = DriftOptions.block_elements
    """Most distances held at once; fewer need less memory and more time, and change no number."""
    moment_decay: float = MomentOptions.decay
    """Share of its past that the running moments of ``transport`` keep at each batch."""
    moment_batches: int = MomentOptions.batches
    """Batches that fill the moments of ``transport`` before its first step."""
    moment_refresh: int = MomentOptions.refresh
    """Steps after which the map of a token set is renewed under ``transport``; the sets take turns."""
    paired_statistics: bool = False
    """Whether local statistics are compared with those of their own target besides, as an objective of their own."""
    drift_weight: float = 1.0
    """Factor of every drift term."""

    def moment_options(self) -> MomentOptions:
        """The settings as options of the field ``transport``."""
        return MomentOptions(self.moment_decay, self.moment_batches, self.moment_refresh)

    def drift_options(self, across_ranks: bool) -> DriftOptions:
        """The settings as options of `drift_loss`; `across_ranks`: one problem spans all training processes.

        Raises
        ------
        GdmError
            Settings that do not fit each other, or numbers out of range.
        """
        if self.field == "transport":
            raise TypeError("the field transport is not a field of kernels")
        return DriftOptions(
            temperatures=self.temperatures,
            field=self.field,
            kernel=self.kernel,
            affinity_floor=self.affinity_floor,
            normalisation=self.drift_normalisation,
            force_decay=self.force_decay,
            force_floor=self.force_floor,
            mask_self=self.pairs != "kept",
            mask_twins=self.pairs == "masked",
            sinkhorn_iterations=self.sinkhorn_iterations,
            block_elements=self.block_elements,
            across_ranks=across_ranks,
        )
