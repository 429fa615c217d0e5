"""The frozen encoder of a plan, and the functions through which the planner learns of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.plans import EncoderSpec, Reason


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


ChooseEncoder = Callable[[VolumeUnits, int], PlannedEncoder]


@dataclass(frozen=True)
class WantedEncoder:
    """The user's wish; calling it chooses.

    Attributes
    ----------
    name
        ``auto``, or an encoder of the table, or ``package.module:factory``.
    options
        Permitted sources of weights.
    """

    name: str
    options: EncoderOptions

    def __call__(self, units: VolumeUnits, dimensions: int) -> PlannedEncoder:
        """Choose for volumes of those units; downloads happen here, and only here."""
        choice = choose_encoder(self.name, units, dimensions, self.options)
        title = f"encoder ({dimensions}D)"
        if choice.spec is None:
            return PlannedEncoder(None, None, Reason(title, "none", choice.because))
        spec = choice.spec
        levels = ", ".join(f"{level.channels}@{'x'.join(map(str, level.stride))}" for level in spec.levels)
        because = f"{choice.because}; levels (channels@stride) {levels}; licence {spec.licence}"
        return PlannedEncoder(spec, choice.encoder, Reason(title, f"{spec.spec} {spec.sha256[:12]}", because))
