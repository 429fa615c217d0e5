"""Sizes of the drift: the trainer with those of its plans, and what planning chooses them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdmunet.device import Precision
from gdmunet.drift_spec import DriftSpec
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import Configuration
from gdmunet.preprocessing.operations import GeneratorStep
from gdmunet.preprocessing.planned_drift import PlannedDrift
from gdmunet.training.drift.bank import sets_bytes
from gdmunet.training.drift.tokens import TokenSet, token_sets, values_read
from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer
from gdmunet.training.trainers.settings import declared_settings, is_overridden
from gdmunet.training.trainers.trainer import Trainer
from gdmunet.training.trainers.trainer_settings import TrainerSettings

LARGEST_SHARE = 0.1
"""Most that the drift may take of a step's operations, and of the memory budget."""
TOKENS = (1024, 512, 256, 128)
"""Fewer tokens than 128 were not compared in quality, so planning does not go below and says the share instead."""
BANK_PATCHES = (256, 128, 64, 32)
BATTERIES = (8, 6, 4, 3, 2)
FEWEST_EPOCHS = 20
_LENGTH = ("epochs", "iterations_per_epoch", "iterations")
BANK_TOKENS = 4
"""Tokens of earlier patches for each one of a patch."""
OPERATIONS_OF_DISTANCE, OPERATIONS_OF_VALUE = 1100.0, 600.0
"""Operations that a convolution does in the time of a distance between tokens (three temperatures, forces included),
and of a feature that is read for a token, there and back. Measured on one core in float32 (benchmarks/step_ratio.py:
25 and 13 ns, at 45 billion operations a second)."""
HALF_PRECISION_FACTOR = 16.0
"""Tensor cores speed up convolutions by so much more than memory: by the data sheet of an H100, not measured."""


def as_planned(kind: type[Trainer], configuration: Configuration) -> type[Trainer]:
    """The trainer with the plans' sizes and length as defaults; a class or user that gives one of its own keeps it.

    Plans without them, as earlier versions made them, leave the constants of the trainers.
    """
    declared = declared_settings(kind)
    planned = {} if configuration.drift is None else vars(configuration.drift)
    sizes = {name: size for name, size in planned.items() if name in declared and not is_overridden(kind, name)}
    if configuration.iterations is not None and not any(is_overridden(kind, name) for name in _LENGTH):
        # A short training has this number of epochs: each is validated on patches, and the best one is kept.
        epoch = max(1, min(TrainerSettings.iterations_per_epoch, configuration.iterations // FEWEST_EPOCHS))
        sizes |= {"iterations": configuration.iterations, "iterations_per_epoch": epoch}
    if not sizes:
        return kind
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **sizes})


@dataclass(frozen=True)
class PlanDrift:
    """Chooses the sizes of a trainer's drift; of a trainer without tokens, those of the default one."""

    kind: type[Trainer]

    def __call__(
        self, configuration: Configuration, encoder: FrozenEncoder, precision: Precision, budget: int
    ) -> PlannedDrift:
        """The most tokens whose drift is at most a tenth of step and budget, and a bank and a battery that fit beside.

        Parameters
        ----------
        budget
            Memory of a step in bytes.
        """
        step = GeneratorStep(configuration.network, configuration.patch_size, configuration.batch_size)
        of_encoder = step.operations_of(encoder, self._drifting.used_levels)
        operations = step.operations + of_encoder
        for tokens in TOKENS:
            sets = self._sets(configuration, encoder, tokens)
            banks = [n for n in BANK_PATCHES if sets_bytes(sets, n) <= LARGEST_SHARE / 2 * budget]
            bank = banks[0] if banks else BANK_PATCHES[-1]
            work = self._operations(sets, configuration.batch_size, tokens, precision) / operations
            bytes_needed = (sets_bytes(sets, bank) + self._bytes(sets, configuration.batch_size, tokens)) / budget
            if max(work, bytes_needed) <= LARGEST_SHARE:
                break
        batteries = [n for n in BATTERIES if n * of_encoder <= LARGEST_SHARE * step.operations]
        battery = batteries[0] if batteries else BATTERIES[-1]
        return PlannedDrift(
            DriftSpec(tokens, bank, BANK_TOKENS * tokens, battery), work, bytes_needed, of_encoder / step.operations
        )

    @property
    def _drifting(self) -> type[DriftTrainer]:
        return self.kind if issubclass(self.kind, DriftTrainer) else GDMTrainer

    def _sets(self, configuration: Configuration, encoder: FrozenEncoder, tokens: int) -> tuple[TokenSet, ...]:
        """The sets that can drift, all their places full of body."""
        kind = self._drifting
        levels = kind.used_levels(encoder.levels)
        sets = token_sets(levels, configuration.patch_size, kind.families, tokens)
        return tuple(one for one in sets if one.per_patch * configuration.batch_size >= kind.minimum_tokens)

    def _operations(self, sets: Sequence[TokenSet], batch: int, tokens: int, precision: Precision) -> float:
        read = 2 * batch * sum(one.per_patch * values_read(one) for one in sets)
        distances = 0 if self._drifting.field == "transport" else _distances(sets, batch, tokens)
        factor = 1.0 if precision == "float32" else HALF_PRECISION_FACTOR
        return factor * (OPERATIONS_OF_DISTANCE * distances + OPERATIONS_OF_VALUE * read)

    def _bytes(self, sets: Sequence[TokenSet], batch: int, tokens: int) -> float:
        """What is read of the largest set, there and back, and three buffers of distances."""
        read = max((2 * 4 * batch * one.per_patch * values_read(one) for one in sets), default=0)
        if self._drifting.field == "transport":
            return read
        distances = _distances(sets, batch, tokens)
        return read + 3 * 4 * min(self._drifting.block_elements, distances)


def _distances(sets: Sequence[TokenSet], batch: int, tokens: int) -> int:
    """Distances of all sets: generated tokens from themselves, the real ones and the bank's."""
    counts = [one.per_patch * batch for one in sets]
    return sum(count * (2 * count + BANK_TOKENS * tokens) for count in counts)
