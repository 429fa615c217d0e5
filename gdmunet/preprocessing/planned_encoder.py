"""The frozen encoder of a plan, and the functions through which the planner learns of it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, Load, choose_encoder
from gdmunet.plans import EncoderSpec, Reason
from gdmunet.preprocessing.operations import GeneratorStep, UsedLevels, every_level
from gdmunet.progress import say


@dataclass(frozen=True)
class PlannedEncoder:
    """Chosen encoder for 2 or 3 dimensions.

    Attributes
    ----------
    spec, module
        Encoder for the plans and its module; None if no encoder of that dimension exists.
    reason
        Choice and its reason, in words.
    """

    spec: EncoderSpec | None
    module: FrozenEncoder | None
    reason: Reason


ChooseEncoder = Callable[[VolumeUnits, GeneratorStep], PlannedEncoder]
"""Chooses for volumes of those units, beside a generator of the size that planning starts from."""


@dataclass(frozen=True)
class WantedEncoder:
    """The user's wish; calling it chooses.

    Attributes
    ----------
    name
        ``auto``, or an encoder of the table, or ``package.module:factory``.
    options
        Permitted sources of weights.
    used
        The levels that the trainer reads: those behind them are neither computed nor weighed.
    """

    name: str
    options: EncoderOptions
    used: UsedLevels = every_level

    def __call__(self, units: VolumeUnits, step: GeneratorStep) -> PlannedEncoder:
        """Choose for volumes of those units; downloads happen here, and only here."""
        dimensions = step.network.dimensions
        weigh = functools.partial(step.load, used=self.used)
        choice = choose_encoder(self.name, units, dimensions, self.options, weigh)
        title = f"encoder ({dimensions}D)"
        if choice.spec is None or choice.load is None:
            return PlannedEncoder(None, None, Reason(title, "none", choice.because))
        spec = choice.spec
        levels = ", ".join(f"{level.channels}@{'x'.join(map(str, level.stride))}" for level in spec.levels)
        because = (
            f"{choice.because}; levels (channels@stride) {levels}; licence {spec.licence}; {_weight(choice.load, step)}"
        )
        if choice.load.heavy:
            say(f"warning: the encoder {spec.spec} makes a step slow: {_weight(choice.load, step)}", sys.stderr)
        return PlannedEncoder(spec, choice.encoder, Reason(title, f"{spec.spec} {spec.sha256[:12]}", because))


def _weight(load: Load, step: GeneratorStep) -> str:
    """Operations and memory in words."""
    patches = f"{step.batch_size} patches of {' x '.join(map(str, step.patch_size))}"
    generator = step.operations / 1e12
    return (
        f"once it has joined, it adds {load.operations * generator:.3g} TFLOP to the generator's {generator:.3g} in a "
        f"step with {patches}, {load.operations:.3g} times as many; its peak memory is {load.memory:.2g} times the "
        "generator's"
    )
