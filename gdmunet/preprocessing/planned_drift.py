"""The question that planning asks a trainer about its drift: how large may it be beside this generator?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gdmunet.device import Precision
from gdmunet.drift_spec import DriftSpec
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import Configuration


@dataclass(frozen=True)
class PlannedDrift:
    """Sizes of the drift, and what they cost.

    Attributes
    ----------
    spec
        Sizes for the plans.
    operations, memory
        Shares of the step's operations and of the memory budget.
    encoder
        Operations of the encoder over the generator's: a battery multiplies them.
    """

    spec: DriftSpec
    operations: float
    memory: float
    encoder: float


PlanDrift = Callable[[Configuration, FrozenEncoder, Precision, int], PlannedDrift]
"""Chooses the sizes for a configuration whose patch and batch are planned, within a budget of bytes."""
