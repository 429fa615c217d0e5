"""The length of a training that fits a time: operations of a step at a rate that is measured on the machine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from gdmunet.device import Precision, mixed_precision, other_work
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import Configuration, Reason
from gdmunet.preprocessing.operations import GeneratorStep, UsedLevels
from gdmunet.preprocessing.planned_drift import PlanDrift
from gdmunet.preprocessing.planned_encoder import PlannedEncoder
from gdmunet.quantities import duration

DAY_HOURS = 24.0
USED_SHARE = 0.8
"""Share of the time that is planned for steps: patches, validation and other work of the machine take the rest."""
_PROBED_BATCH = 2
_SECONDS = 5.0
_PATIENCE = 30.0
"""Seconds for all steps that are measured: on a busy machine small patches are slow out of all proportion."""
_CLEARLY = 4.0
_AMPLE = 1 << 50  # bytes: here the operations alone count


@dataclass(frozen=True)
class PlanLength:
    """Chooses the optimiser steps of a training.

    Real steps of the planned trainer would need prepared cases, and of a large network minutes each. So the generator
    alone takes a few steps, on a small patch first and on the planned one if half a minute allows it, and the
    operations of the whole step are divided by that rate.

    Attributes
    ----------
    device, precision
        Device at hand, and the precision of the forward pass on it.
    used
        Levels of an encoder that the trainer reads.
    own
        Optimiser steps of the trainer itself.
    hours
        Hours in which a training is to end; None: the trainer's own length is kept, and its time is said.
    asked
        Whether the user gave the hours.
    drift
        Function that chooses the sizes of the drift, which says their share of a step's operations; None: there is no
        drift.
    """

    device: torch.device
    precision: Precision
    used: UsedLevels
    own: int
    hours: float | None
    asked: bool = False
    drift: PlanDrift | None = None

    def __call__(self, configuration: Configuration, encoder: PlannedEncoder | None) -> tuple[int | None, Reason]:
        """Steps to store in the plans, None for the trainer's own, and the reason."""
        seconds = self.step_seconds(configuration, encoder)
        fitting = None if self.hours is None else max(1, int(USED_SHARE * 3600 * self.hours / seconds))
        chosen = None if fitting is None or (fitting >= self.own and not self.asked) else _rounded(fitting)
        length = chosen or self.own
        because = (
            f"a step takes about {duration(seconds)} on {self._where()} (its operations at the rate that a few steps "
            f"of the network had), so all take about {duration(seconds * length)}"
        )
        if self.device.type == "cpu" and other_work():
            because += f"; other programs keep the machine busy now ({other_work()}): alone it is faster"
        if chosen is None:
            because = f"the trainer's own length; {because}"
        elif self.asked:
            because = f"fits the {self.hours:g} hours that were asked for, a fifth kept for other work; {because}"
        else:
            because = (
                f"ends within a day, where the trainer's own {self.own:,} would take {duration(seconds * self.own)}; "
                f"{because}; another time: --hours, another length: gdm_train --iterations"
            )
        return chosen, Reason(f"{configuration.name} length", f"{length:,} iterations", because)

    def step_seconds(self, configuration: Configuration, encoder: PlannedEncoder | None) -> float:
        """Seconds of a step, patches not counted."""
        step = GeneratorStep(configuration.network, configuration.patch_size, configuration.batch_size)
        operations = float(step.operations)
        if encoder is not None and encoder.module is not None:
            operations += step.operations_of(encoder.module, self.used)
            if self.drift is not None:
                found = self.drift(configuration, encoder.module, self.precision, _AMPLE)
                operations *= 1 + found.operations
        started = time.monotonic()
        seconds = math.inf
        for patch in _probes(configuration):
            probe = GeneratorStep(configuration.network, patch, _PROBED_BATCH)
            taken = self._probe(probe, started + _SECONDS)
            seconds = operations / probe.operations * taken
            clear = self.hours is not None and not self.asked and seconds * self.own * _CLEARLY < 3600 * self.hours
            left = started + _PATIENCE - time.monotonic()
            if clear or 2 * _growth(configuration, patch) * taken > left:
                break
        return seconds

    def _probe(self, step: GeneratorStep, deadline: float) -> float:
        """Seconds of the fastest of a few steps of the generator after the first."""
        generator = torch.Generator().manual_seed(0)
        shape = (_PROBED_BATCH, step.network.in_channels, *step.patch_size)
        condition = torch.randn(shape, generator=generator).to(self.device)
        network = _fresh(step.network).to(self.device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
        taken: list[float] = []
        while len(taken) < 2 or (len(taken) < 4 and time.monotonic() < deadline):
            started = time.perf_counter()
            with mixed_precision(self.device, self.precision):
                loss = functional.l1_loss(network(condition).float(), condition[:, :1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append(time.perf_counter() - started)
        return max(min(taken[1:]), 1e-6)

    def _where(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"this CPU with {torch.get_num_threads()} threads" if torch.get_num_threads() > 1 else "one CPU thread"


def with_lengths(
    planned: Mapping[str, Configuration], encoders: Mapping[int, PlannedEncoder], choose: PlanLength | None
) -> tuple[dict[str, Configuration], list[Reason]]:
    """The configurations with the lengths of their trainings, and the reasons; as they are without a choice."""
    if choose is None:
        return dict(planned), []
    found = {name: choose(one, encoders.get(one.dimensions)) for name, one in planned.items()}
    sized = {name: replace(one, iterations=found[name][0]) for name, one in planned.items()}
    return sized, [reason for _, reason in found.values()]


def _probes(configuration: Configuration) -> Iterator[tuple[int, ...]]:
    """Patches from a quarter of the planned edges to all of them, each of two voxels or more at the bottleneck."""
    strides = configuration.network.strides
    least = [2 * math.prod(along) for along in zip(*strides, strict=True)]
    last: tuple[int, ...] | None = None
    for share in (4, 2, 1):
        patch = tuple(
            min(edge, max(low, edge // share // low * low))
            for edge, low in zip(configuration.patch_size, least, strict=True)
        )
        if patch != last:
            yield patch
        last = patch


def _growth(configuration: Configuration, patch: tuple[int, ...]) -> float:
    """How much larger than a patch the next one may be."""
    return min(float(2 ** len(patch)), math.prod(configuration.patch_size) / math.prod(patch))


def _fresh(spec: NetworkSpec) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(spec)


def _rounded(count: int) -> int:
    """Two leading digits, downwards: more were not measured."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return count // unit * unit
