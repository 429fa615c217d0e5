"""Error and distance of a model over its dial for realism, and the place that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdmunet.evaluation.distributions.distances import FeaturePair, mean_distances, pooled_distances
from gdmunet.ranges import counted_as, within

REALISMS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Places that validation scores."""
LARGEST_RISE = 0.01
"""Most that the error may rise above that of realism 0, as a share of it."""


@dataclass(frozen=True)
class DialScores:
    """One case at the places `REALISMS`.

    Attributes
    ----------
    errors
        Mean absolute errors inside the body.
    features
        Features of the prediction and of the target, inside the body.
    """

    errors: tuple[float, ...]
    features: tuple[FeaturePair, ...]


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
    frechet
        Frechet distance between predictions and targets at each place, all cases together; None: it was not measured.
    encoder
        Encoder whose features are compared; it trained no generator.
    """

    realism: tuple[float, ...]
    mae: tuple[float, ...]
    chosen: float
    unit: str = ""
    frechet: tuple[float, ...] | None = None
    encoder: str = ""

    def __post_init__(self) -> None:
        counted_as("the errors over the dial", self.mae, len(self.realism))
        if self.frechet is not None:
            counted_as("the distances over the dial", self.frechet, len(self.realism))
        within("the place of the dial", (*self.realism, self.chosen), 0, 1)

    @classmethod
    def of(cls, scores: Sequence[DialScores], unit: str, encoder: str) -> DialCurve:
        """From every case's scores at the places `REALISMS`."""
        mae = tuple(sum(column) / len(column) for column in zip(*(one.errors for one in scores), strict=True))
        allowed = (1 + LARGEST_RISE) * mae[0]
        chosen = max(place for place, error in zip(REALISMS, mae, strict=True) if error <= allowed)
        levels = [pooled_distances(pairs) for pairs in zip(*(one.features for one in scores), strict=True)]
        # A body of a few voxels has no two places of any level.
        frechet = tuple(mean_distances(one)[0] for one in levels) if all(levels) else None
        return cls(REALISMS, mae, chosen, unit, frechet, encoder if frechet else "")

    def describe(self) -> str:
        """One line for people."""
        distances = ""
        if self.frechet is not None:
            distances = f"; Frechet distance ({self.encoder}) {self._by_place(self.frechet, '.4f')}"
        errors = f"MAE over the dial ({self.unit}) {self._by_place(self.mae, '.1f')}"
        return f"{errors}{distances}; predictions take realism {self.chosen:g}"

    def _by_place(self, values: Sequence[float], digits: str) -> str:
        return ", ".join(f"{place:g}: {value:{digits}}" for place, value in zip(self.realism, values, strict=True))
