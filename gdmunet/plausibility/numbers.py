"""The numbers of a case that are compared: with the ranges of the training cases, and between these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gdmunet.geometry import Shape, Vector
from gdmunet.hounsfield import is_hounsfield
from gdmunet.plausibility.measures import VolumeMeasures

_AXES = "zyx"


@dataclass(frozen=True)
class Number:
    """One number of a case or of one of its volumes.

    Attributes
    ----------
    name
        Key in the ranges of plans.
    label
        Name for people.
    unit
        Its unit; empty for shares, which are printed in per cent.
    scale
        ``ratio``: two values are compared by their quotient; ``difference``: by what lies between them.
    least
        Smallest distance that counts: a factor, or a difference in the number's unit.
    """

    name: str
    label: str
    unit: str
    scale: Literal["ratio", "difference"]
    least: float

    def place(self, value: float) -> float:
        """The value on an axis where distances count alike; a quotient becomes a difference."""
        return math.log(max(value, 1e-6)) if self.scale == "ratio" else value

    @property
    def margin(self) -> float:
        """`least` on that axis."""
        return math.log(self.least) if self.scale == "ratio" else self.least

    def text(self, value: float) -> str:
        """A value as people read it."""
        if not self.unit:
            return f"{100 * value:.3g} %"
        return f"{value:.4g} {self.unit}" if self.unit != "raw" else f"{value:.4g}"

    def range_text(self, low: float, high: float) -> str:
        """Two values as people read them."""
        return f"{self.text(low)} to {self.text(high)}" if low != high else self.text(low)


CASE_NUMBERS = {
    number.name: number
    for number in (
        *(Number(f"spacing_{axis}", f"voxel size along {axis}", "mm", "ratio", 1.5) for axis in _AXES),
        *(Number(f"size_{axis}", f"extent along {axis}", "mm", "ratio", 2.0) for axis in _AXES),
        Number("body_volume", "volume of the body", "ml", "ratio", 3.0),
        Number("body_share", "share of the body in the volume", "", "difference", 0.35),
    )
}
_SHARES = (
    Number("negative_share", "share of negative values", "", "difference", 0.1),
    Number("air_share", "share of values below -900", "", "difference", 0.4),
)
# Of a volume in HU.
HU_NUMBERS = {
    number.name: number
    for number in (
        Number("tissue", "median of the tissue", "HU", "difference", 150.0),
        Number("air_share", "share of values below -900", "", "difference", 0.4),
        Number("low", "0.5 percentile", "HU", "difference", 500.0),
        Number("high", "99.5 percentile", "HU", "difference", 1500.0),
    )
}
# Of a volume without a fixed unit, whose map is fitted to each case: nothing depends on the scale.
RELATIVE_NUMBERS = {
    number.name: number
    for number in (
        *_SHARES,
        Number("border", "brightness of the border between the darkest and the brightest value", "", "difference", 0.3),
        Number("level", "median of the body between the darkest and the brightest value", "", "difference", 0.4),
    )
}
# Of a target without a fixed unit, which has one map for all cases: there the scale counts.
SCALE_NUMBERS = {"high": Number("high", "99.5 percentile", "raw", "ratio", 5.0)}


def numbers_of(modality: str, *, target: bool = False) -> dict[str, Number]:
    """The numbers of a volume by name."""
    if is_hounsfield(modality):
        return HU_NUMBERS
    return RELATIVE_NUMBERS | (SCALE_NUMBERS if target else {})


def outlier_numbers(modality: str, *, target: bool = False) -> dict[str, Number]:
    """The numbers in which training cases are compared with each other, with the raw median also without a fixed unit.

    The scale of a condition is fitted to each case, and scanners differ by a factor of a hundred: what differs by more
    is another unit.
    """
    if is_hounsfield(modality):
        return HU_NUMBERS
    least = 3.0 if target else 200.0
    return numbers_of(modality, target=target) | {
        "tissue": Number("tissue", "median of the body", "raw", "ratio", least)
    }


def values_of(numbers: Mapping[str, Number], measures: VolumeMeasures) -> dict[str, float]:
    """The values of these numbers; one that the volume does not have is left out."""
    return {name: value for name in numbers if (value := getattr(measures, name)) is not None}


def case_values(shape: Shape, spacing: Vector, body_share: float) -> dict[str, float]:
    """The numbers of a whole case.

    Parameters
    ----------
    shape, spacing
        Voxels and mm along the canonical axes (z, y, x) of the whole volume, before any crop.
    body_share
        Share of its voxels that are body.
    """
    size = [count * step for count, step in zip(shape, spacing, strict=True)]
    values = {f"spacing_{axis}": step for axis, step in zip(_AXES, spacing, strict=True)}
    values |= {f"size_{axis}": length for axis, length in zip(_AXES, size, strict=True)}
    return values | {"body_volume": math.prod(size) * body_share / 1000, "body_share": body_share}
