"""All scores of one case, in a form that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gdmunet.metrics.metric import ImagePair, Metric
from gdmunet.metrics.own import OwnMetricSpec, own_score
from gdmunet.metrics.ranges import ValueRange
from gdmunet.metrics.structures import StructureScores
from gdmunet.metrics.table import METRICS


@dataclass(frozen=True)
class ImageScores:
    """Scores of one case.

    Attributes
    ----------
    values
        Name of the metric (a key of `METRICS`) to its value; None if it has no finite value.
    notes
        Name to the reason why a value is None, or to what it leaves out.
    """

    values: dict[str, float | None]
    notes: dict[str, str] = field(default_factory=dict)

    def with_values(self, values: Mapping[str, float]) -> ImageScores:
        """These scores and further ones."""
        return ImageScores({**self.values, **values}, self.notes)

    def with_structures(self, found: StructureScores) -> ImageScores:
        """These scores and those of the case's label maps."""
        notes = dict(self.notes)
        if not found.structures:
            notes |= dict.fromkeys(("dice", "hd95"), "undefined: the reference's label map has none of the structures")
        elif found.missing:
            listed = ", ".join(map(str, found.missing))
            notes["hd95"] = f"leaves out what the prediction's label map lacks (Dice 0 there): structures {listed}"
        return ImageScores(self.values | {"dice": found.dice, "hd95": found.hd95}, notes)


def score_pair(
    target: np.ndarray,
    prediction: np.ndarray,
    value_range: ValueRange,
    mask: np.ndarray | None = None,
    *,
    hounsfield: bool = True,
    own: Sequence[OwnMetricSpec] = (),
) -> ImageScores:
    """Every metric of images in `METRICS`; the tissue classes only where the values are Hounsfield units.

    Parameters
    ----------
    target, prediction, mask
        (z, y, x); mask None: the whole volume.
    hounsfield
        False for MR and other targets, for which air and bone have no fixed values.
    own
        Metrics of the user's own, whose functions are run.

    Raises
    ------
    GdmError
        Shapes that differ, empty mask, values inside the mask that are not finite.
    """
    pair = ImagePair(target, prediction, value_range, mask)
    values: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for metric in METRICS.values():
        if metric.score is None or (metric.basis == "tissue" and not hounsfield):
            continue
        _note(metric, metric.score(pair), values, notes)
    for spec in own:
        _note(spec.enrolled(), own_score(spec, pair), values, notes)
    return ImageScores(values, notes)


def _note(metric: Metric, value: float | None, values: dict[str, float | None], notes: dict[str, str]) -> None:
    values[metric.name] = value if value is not None and math.isfinite(value) else None
    if values[metric.name] is None:
        notes[metric.name] = metric.undefined
