"""Predictions, as a predictor gives them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gdmunet.geometry import Geometry
from gdmunet.inference.window_options import WindowCount


@dataclass(frozen=True)
class NetworkPrediction:
    """A prediction on the prepared grid in network units, both arrays (z, y, x) float32.

    `deviation` is the standard deviation over the members (folds, flips), or None if it was not asked for.
    """

    array: np.ndarray
    deviation: np.ndarray | None
    windows: WindowCount


@dataclass(frozen=True)
class DialPrediction:
    """All places of a dial on the prepared grid in network units: (z, y, x) float32 each.

    A prediction is linear over the dial: at realism r it is `faithful` + r `change`.
    """

    faithful: np.ndarray
    change: np.ndarray
    windows: WindowCount

    def at(self, realism: float) -> NetworkPrediction:
        """The prediction at a place of the dial."""
        return NetworkPrediction(self.faithful + np.float32(realism) * self.change, None, self.windows)


@dataclass(frozen=True)
class Prediction:
    """A predicted volume in physical units on the grid of its condition.

    Attributes
    ----------
    identifier
        Name of the case.
    array
        (z, y, x) float32 in the target's unit (HU for CT), inside the target's valid range.
    geometry
        The condition's grid.
    modality
        Modality that was predicted, as dataset.json names it (``target_name``).
    uncertainty
        (z, y, x) float32, standard deviation over folds and flips in the target's unit; None unless asked for.
    windows
        Numbers of windows that the network saw, and that were filled.
    """

    identifier: str
    array: np.ndarray
    geometry: Geometry
    modality: str
    uncertainty: np.ndarray | None = None
    windows: WindowCount = field(default_factory=WindowCount)
