"""The error of a model over its dial for realism, and the place that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdmunet.ranges import counted_as, within

REALISMS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Places that validation scores."""
LARGEST_RISE = 0.01
"""Most that the error may rise above that of realism 0, as a share of it."""


@dataclass(frozen=True)
class DialCurve:
    """The content of dial.json.

    Attributes
    ----------
    realism
        Places of the dial, the first of which is 0.
    mae
        Mean absolute error inside the body at each place, mean over the held-out cases.
    chosen
        The largest place whose error is at most 1 % above that of realism 0: the default of predictions.
    unit
        Unit of the error; empty if it is not known.
    """

    realism: tuple[float, ...]
    mae: tuple[float, ...]
    chosen: float
    unit: str = ""

    def __post_init__(self) -> None:
        counted_as("the errors over the dial", self.mae, len(self.realism))
        within("the place of the dial", (*self.realism, self.chosen), 0, 1)

    @classmethod
    def of(cls, errors: Sequence[Sequence[float]], unit: str) -> DialCurve:
        """From the errors of every case at the places `REALISMS`."""
        mae = tuple(sum(column) / len(column) for column in zip(*errors, strict=True))
        allowed = (1 + LARGEST_RISE) * mae[0]
        chosen = max(place for place, error in zip(REALISMS, mae, strict=True) if error <= allowed)
        return cls(REALISMS, mae, chosen, unit)

    def describe(self) -> str:
        """One line for people."""
        places = ", ".join(f"{place:g}: {error:.1f}" for place, error in zip(self.realism, self.mae, strict=True))
        return f"MAE over the dial ({self.unit}) {places}; predictions take realism {self.chosen:g}"
