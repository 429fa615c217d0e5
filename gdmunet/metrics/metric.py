"""A metric: its name, unit, direction and decimals, and the text of its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from gdmunet.metrics.pointwise import TissueErrors, tissue_mae
from gdmunet.metrics.ranges import EvaluationRange, ValueRange, values_inside
from gdmunet.metrics.spectrum import ShellSpectra, shell_spectra
from gdmunet.metrics.structural import StructuralSimilarity

# "target": the unit of the target (HU or not known). "distance": a number without unit whose size nobody knows before.
# Any other text, such as dB or mm, is the unit itself.
_WITHOUT_UNIT = ("ratio", "distance")
# The volumes that a metric is computed from; "tissue" are images in HU, "judge" a case against a classifier that saw
# other cases, "cases" all volumes of both sides together; "own" metrics come from a user's function.
Basis = Literal["images", "tissue", "label maps", "judge", "cases", "windows", "own"]


@dataclass(frozen=True)
class ImagePair:
    """The input of a metric of images: volumes (z, y, x), range of values, and mask (None: the whole volume)."""

    target: np.ndarray
    prediction: np.ndarray
    value_range: ValueRange
    mask: np.ndarray | None = None

    @cached_property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Target and prediction at the mask's voxels, (voxels,) float64 each; checked to be finite (GdmError)."""
        return values_inside(self.target, self.prediction, self.mask)

    @cached_property
    def tissue(self) -> TissueErrors:
        """Errors by tissue class, computed once for the three rows that show them."""
        return tissue_mae(*self.values)

    @cached_property
    def structure(self) -> StructuralSimilarity:
        """SSIM and multi-scale SSIM, which share their windows at full resolution."""
        return StructuralSimilarity(self.target, self.prediction, self.value_range, self.mask)

    @cached_property
    def spectra(self) -> ShellSpectra | None:
        """Spectra inside the body, computed once for the rows that show them; None: no block of it fits."""
        return shell_spectra(self.target, self.prediction, self.value_range, self.mask)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name
        Key in summary.json and column of the CSV files.
    label
        Name for people, without the unit.
    unit
        ``target``, ``ratio``, ``distance``, or the unit itself, such as ``mm``.
    best
        ``low`` or ``high``, or the value at which a prediction is perfect.
    decimals
        Decimals for people; files hold every digit.
    meaning
        Definition for people, a noun phrase.
    years
        SynthRAD challenges that score it.
    main
        Whether it belongs in a paper's table; the others stand in the CSV files and on the page.
    basis
        Volumes that it is computed from.
    score
        Its function for metrics of images, None for the others. None or a value that is not finite: undefined.
    undefined
        Reason why a case may have no value, as a note in summary.json.
    """

    name: str
    label: str
    unit: str
    best: Literal["low", "high"] | float
    decimals: int
    meaning: str
    years: tuple[EvaluationRange, ...] = ()
    main: bool = False
    basis: Basis = "images"
    score: Callable[[ImagePair], float | None] | None = None
    undefined: str = "undefined"

    def unit_text(self, target_unit: str) -> str:
        """The unit of the values; empty if there is none or the target's is not known."""
        return target_unit if self.unit == "target" else "" if self.unit in _WITHOUT_UNIT else self.unit

    def head(self, target_unit: str) -> str:
        """Head of a column: ``MAE (HU)``, ``PSNR (dB)``, ``SSIM``."""
        unit = self.unit_text(target_unit)
        return f"{self.label} ({unit})" if unit else self.label

    def text(self, value: float | None, target_unit: str, *, signed: bool = False) -> str:
        """A value as people read it, without the unit; a dash for None.

        Where nobody knows the size of the values (a distance, or a target without a known unit), a value below 1 has
        significant digits in place of decimals.
        """
        if value is None:
            return "-"
        sign = "+" if signed else ""
        unknown_size = self.unit == "distance" or (self.unit == "target" and not target_unit)
        if unknown_size and abs(value) < 1:
            return f"{value:{sign}.{self.decimals + 2}g}"
        text = f"{value:{sign}.{self.decimals}f}"
        # A bias of -0.001 is not "-0.00".
        return text.replace("-", "") if float(text) == 0 and not signed else text

    def sentence(self, value: float | None, target_unit: str) -> str:
        """Label, value and unit: ``MAE 35.20 HU``."""
        return f"{self.label} {self.text(value, target_unit)} {self.unit_text(target_unit)}".rstrip()

    def badness(self, value: float) -> float:
        """A number that is smaller the better `value` is, for rankings and orders."""
        if self.best == "low":
            return value
        if self.best == "high":
            return -value
        return abs(value - self.best)
