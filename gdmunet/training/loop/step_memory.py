"""Predicted peak memory of a trainer's step: the step itself, run on meta tensors before anything is allocated."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderSpec, MemoryFootprint
from gdmunet.preprocessing.cuda_autocast import as_on_cuda
from gdmunet.preprocessing.memory import DifferentOperationsError, LinearTrace, LiveBytes, StepSize, bytes_of
from gdmunet.preprocessing.meta_values import is_meta
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.training.draws import Draws
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.encoder import EncoderTrainer
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import DriftTrainer
from gdmunet.training.trainers.planned_sizes import as_planned
from gdmunet.training.trainers.trainer import Trainer

META = torch.device("meta")
LEAST_EDGE = 96
"""Edge in voxels of the patches that are counted: large enough for all the tokens that a patch may give."""
COUNTED_PATCHES = (2, 4)
SHOWN_PATCHES = 16
"""Patches shown to a trainer that asks for a preview: enough for what a step reads of a feature bank."""
_OUTPUT_COPIES = 3
"""Gradients of two objectives and their combination, float32, beside what autograd holds."""


class StepMemory:
    """Counts the step of a trainer: a value that the command hands to planning.

    The trainer's own hooks run, and the loop's own step around them (losses, backward pass, clipping, optimiser,
    average): a loss or an optimiser that a user writes is counted as well. A step is counted as a CUDA device would
    run it, with its mixed precision and with the optimiser's form that updates all weights at once.

    Every tensor's size counts as a constant plus a share for each voxel and each patch of the batch: three small
    counts of a network then give the peak at every size (`LinearTrace`). Only pairs of the drift's tokens grow faster,
    by some MB. A trainer whose operations differ from size to size is counted at each size by itself, and so
    are patches with an encoder that are smaller than those counts.

    Parameters
    ----------
    kind
        The trainer, settings included.
    linear
        Whether a few counts give all sizes; False: count every size by itself.
    """

    def __init__(self, kind: type[Trainer], *, linear: bool = True) -> None:
        self.kind, self.linear = kind, linear
        self._counts: dict[tuple[object, ...], _Count | None] = {}

    def __call__(self, planned: PlannedStep) -> MemoryFootprint:
        """Peak bytes of one training step in the steady state (the optimiser's moments exist), by part."""
        small = _small_sizes(self.kind, planned)
        # Patches below the counted ones may have fewer tokens than a patch may give.
        scales = not self.kind.uses_encoder or _Size.of(planned).step.voxels >= small[0].step.voxels
        count = self._count(planned, small) if self.linear and scales else None
        if count is None:
            try:
                count = self._count(planned, (_Size.of(planned),))
            except GdmError:
                # This trainer refuses so small a patch, and says so when it starts. Other trainers may use the plans:
                # they get the count of a larger patch.
                count = self._count(planned, small) or self._count(planned, small[-1:])
        if count is None:
            raise TypeError(f"the step of {self.kind.__name__} differs from run to run")
        return count.footprint(planned, _bank_bytes(self.kind, planned))

    def _count(self, planned: PlannedStep, sizes: tuple[_Size, ...]) -> _Count | None:
        configuration = replace(planned.configuration, patch_size=sizes[-1].patch, batch_size=sizes[-1].patches)
        planned = replace(planned, configuration=configuration)
        key = (configuration, repr(planned.dataset), planned.precision, planned.encoder, sizes)
        if key not in self._counts:
            try:
                self._counts[key] = _run(counted_kind(self.kind, planned), planned, sizes)
            except DifferentOperationsError:
                self._counts[key] = None
        return self._counts[key]


@dataclass(frozen=True)
class _Size:
    """Patch in voxels, and patches of the batch."""

    patch: tuple[int, ...]
    patches: int

    @classmethod
    def of(cls, planned: PlannedStep) -> _Size:
        return cls(planned.configuration.patch_size, planned.configuration.batch_size)

    def padded(self, encoder: FrozenEncoder | None) -> _Size:
        """As the encoder pads it."""
        divisor = 1 if encoder is None else encoder.divisor
        return _Size(tuple(-(-n // divisor) * divisor for n in self.patch), self.patches)

    @property
    def step(self) -> StepSize:
        return StepSize(self.patches * math.prod(self.patch), self.patches)


@dataclass(frozen=True, eq=False)
class _Count:
    """Bytes of one network's step.

    Attributes
    ----------
    first, last
        The first step of a training and its last, with everything joined.
    parameters, gradients, optimizer, average
        Bytes of the generator's tensors that stay from step to step (gradients: until the next step).
    beside
        Bytes of the parts that a trainer keeps beside the generator, without its bank.
    bank
        Bytes of the bank that was counted.
    encoder
        Whether the parts beside the generator are a frozen encoder.
    """

    first: LinearTrace
    last: LinearTrace
    parameters: int
    gradients: int
    optimizer: int
    average: int
    beside: int
    bank: int
    encoder: bool

    def footprint(self, planned: PlannedStep, bank: int) -> MemoryFootprint:
        """Footprint of a step of that size; `bank`: bytes of its bank."""
        size = _Size.of(planned)
        held = self.parameters + self.gradients + self.optimizer + self.average
        buckets = self.gradients if planned.processes > 1 else 0
        if not self.encoder:
            return MemoryFootprint(
                parameters=self.parameters,
                gradients=self.gradients,
                optimizer=self.optimizer,
                ema=self.average,
                activations=max(0, self.last.peak(size.step) - held),
                buckets=buckets,
            )
        # The encoder pads a patch to multiples of its divisor, the generator does not.
        padded = size.padded(planned.encoder).step
        added = max(0, self.last.peak(padded) - self.first.peak(padded))
        outputs = min(added, _OUTPUT_COPIES * 4 * size.step.voxels)
        return MemoryFootprint(
            parameters=self.parameters,
            gradients=self.gradients,
            optimizer=self.optimizer,
            ema=self.average,
            activations=max(0, self.first.peak(size.step) - held - self.beside - self.bank),
            encoder=added - outputs + self.beside,
            bank=bank,
            output_gradients=outputs,
            buckets=buckets,
        )


def counted_kind(kind: type[Trainer], planned: PlannedStep) -> type[Trainer]:
    """The trainer as it is counted: in the planned precision, uncompiled, with one temperature of the drift.

    Without an encoder, a trainer that needs one is counted as the fidelity that it starts with.
    """
    kind = as_planned(kind, planned.configuration)
    changes: dict[str, Any] = {"precision": planned.precision, "compile_network": False}
    if kind.uses_encoder and planned.encoder is None:
        changes = {name: getattr(kind, name) for name in FidelityTrainer.settings()} | changes
        kind = FidelityTrainer
    if kind.activation_checkpointing:
        # What is computed anew cannot be counted in mixed precision: float32 is an upper bound.
        changes["precision"] = "float32"
    if issubclass(kind, DriftTrainer):
        # Every temperature uses the same memory again, except for its directions at a few hundred tokens.
        changes["temperatures"] = kind.temperatures[:1]
        if set(kind.families) == {"global"}:  # one token per patch: of a batch of two they would be too few
            changes["minimum_tokens"] = min(kind.minimum_tokens, COUNTED_PATCHES[0])
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, **changes})


class _Training:
    """A training without folders, data or memory, as a CUDA device would run it."""

    def __init__(self, kind: type[Trainer], planned: PlannedStep, live: LiveBytes) -> None:
        self.planned, self.live, self.precision = planned, live, kind.precision_on(META)
        self.trainer = kind(planned.configuration, planned.dataset, META, self._load_encoder)
        with META:
            self.state = TrainingState.fresh(self.trainer)
        self.state.scaler = torch.amp.GradScaler("meta", enabled=False)  # a loss scale is a few bytes
        for group in self.state.optimizer.param_groups:
            if "foreach" in group:
                group["foreach"] = True
        self.at_rest = 0

    def settle(self, size: _Size) -> None:
        """Fill what the trainer keeps and make the optimisers' moments: nothing more stays than after a later step."""
        self._begin(self.trainer.total_iterations - 1)
        asked = self.trainer.preview()
        if asked is not None:
            shown = self._batch(_Size(size.patch, min(asked.patches, SHOWN_PATCHES)))
            self.trainer.see(shown, Draws.seeded(0, META))
            del shown
        self._step(0, size)
        if self.trainer.trains_in_turns:
            self._step(self.trainer.total_iterations - 1, size)
        self.at_rest = self.live.current

    def trace(self, iteration: int, sizes: Sequence[_Size]) -> LinearTrace:
        """Bytes alive during that step."""
        return LinearTrace.through([self._step(iteration, size) for size in sizes], [size.step for size in sizes])

    def _load_encoder(self, _spec: EncoderSpec, _units: VolumeUnits) -> FrozenEncoder:
        """The planned one, without data; its weights count from here."""
        if self.planned.encoder is None:
            raise TypeError(f"{type(self.trainer).__name__} asks for an encoder that is not planned")
        self.live.track([*self.planned.encoder.parameters(), *self.planned.encoder.buffers()])
        return self.planned.encoder

    def _begin(self, iteration: int) -> None:
        self.state.iteration = iteration
        step = begin_step(self.trainer, self.state, _say_nothing)
        self.trainer.step = replace(step, autocast=functools.partial(as_on_cuda, self.precision))

    def _step(self, iteration: int, size: _Size) -> list[int]:
        """Bytes alive after each operation of one step."""
        self._begin(iteration)
        batch = self._batch(size)
        self.live.restart()
        take_step(self.trainer, self.state, [batch])
        history = list(self.live.history)
        self.state.optimizer.zero_grad(set_to_none=True)
        return history

    def _batch(self, size: _Size) -> Batch:
        channels = (self.planned.configuration.network.in_channels, 1, 1)
        condition, target, mask = (torch.empty(size.patches, count, *size.patch, device=META) for count in channels)
        return Batch(condition, target, mask, ("",) * size.patches)


def _run(kind: type[Trainer], planned: PlannedStep, sizes: Sequence[_Size]) -> _Count:
    # A copy, since a trainer lets go of the levels that it does not use.
    encoder = None if planned.encoder is None else copy.deepcopy(_without_data(planned.encoder))
    with torch.random.fork_rng(devices=[]), LiveBytes("meta") as live:
        training = _Training(kind, replace(planned, encoder=encoder), live)
        training.settle(sizes[-1])
        network, state = training.state.network, training.state
        parameters = bytes_of([*network.parameters(), *network.buffers()])
        moments = bytes_of(
            [value for values in state.optimizer.state.values() for value in values.values() if is_meta(value)]
        )
        average = bytes_of(state.average.state)
        bank = _bank_bytes(kind, planned)
        last = training.trace(training.trainer.total_iterations - 1, sizes)
        return _Count(
            first=training.trace(0, sizes) if kind.uses_encoder else last,
            last=last,
            parameters=parameters,
            gradients=bytes_of([weight for weight in network.parameters() if weight.requires_grad]),
            optimizer=moments,
            average=average,
            beside=training.at_rest - parameters - moments - average - bank,
            bank=bank,
            encoder=kind.uses_encoder,
        )


def _say_nothing(text: str) -> None:
    """The messages of a step belong in a training's log."""


@functools.lru_cache(maxsize=4)
def _without_data(encoder: FrozenEncoder) -> FrozenEncoder:
    # Its weights, which may fill a GPU, are not copied on the way.
    bare: dict[int, Any] = {id(p): nn.Parameter(p.detach().to(META), p.requires_grad) for p in encoder.parameters()}
    bare |= {id(buffer): buffer.to(META) for buffer in encoder.buffers()}
    return copy.deepcopy(encoder, bare).to(META)


def _bank_bytes(kind: type[Trainer], planned: PlannedStep) -> int:
    if planned.encoder is None or not issubclass(kind, EncoderTrainer):
        return 0
    sized = as_planned(kind, planned.configuration)
    assert issubclass(sized, EncoderTrainer)
    return sized.bank_bytes(planned.encoder, planned.configuration.patch_size)


def _small_sizes(kind: type[Trainer], planned: PlannedStep) -> tuple[_Size, ...]:
    """Sizes that are counted in place of all others; the last is the largest.

    Their edges are the least of `LEAST_EDGE` voxels or more that generator and encoder divide. The generator knows
    voxels alone; tokens of an encoder's features grow with the number of patches.
    """
    divisor = 1 if planned.encoder is None else planned.encoder.divisor
    strides = planned.configuration.network.strides
    # A bottleneck of two voxels per side is the least that every normalisation accepts.
    divisors = [math.lcm(2 * math.prod(along), 2 * divisor) for along in zip(*strides, strict=True)]
    patch = tuple(-(-LEAST_EDGE // least) * least for least in divisors)
    double = (2 * patch[0], *patch[1:])
    few, many = COUNTED_PATCHES
    sizes = (_Size(patch, few), _Size(double, few), _Size(double, many))
    return sizes if kind.uses_encoder else sizes[:2]
