"""The range of values that the scores refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.hounsfield import HU_MODALITIES
from gdmunet.metrics import EvaluationRange, ValueRange, evaluation_range


@dataclass(frozen=True)
class RangeChoice:
    """The values that the scores refer to.

    Attributes
    ----------
    name
        Name of the range, as in `EvaluationSpec.range`.
    value_range
        None: every case on its own reference's range.
    hounsfield
        True where the values are Hounsfield units.
    """

    name: Literal["2023", "2025", "given", "reference"]
    value_range: ValueRange | None
    hounsfield: bool


def choose_range(
    descriptor: DatasetDescriptor | None = None,
    range_name: EvaluationRange | None = None,
    data_range: tuple[float, float] | None = None,
) -> RangeChoice:
    """Decide the range: what the user gave, else by the target's modality, else that of SynthRAD2025.

    Parameters
    ----------
    descriptor
        Its target says whether the values are Hounsfield units; without one they are, unless `data_range` is given.
    range_name
        ``"2025"`` or ``"2023"``, for Hounsfield units only.
    data_range
        Low and high in the target's unit. Outside the mask stands the low end.

    Raises
    ------
    GdmError
        Both were given, or a range of Hounsfield units for another target.
    """
    if range_name is not None and data_range is not None:
        raise GdmError(
            "two ranges were given",
            found=f"range {range_name} and data range {data_range[0]:g} to {data_range[1]:g}",
            remedy="give --range 2023|2025 or --data-range LOW HIGH",
        )
    hounsfield = descriptor.hounsfield if descriptor else data_range is None
    if data_range is not None:
        low, high = data_range
        return RangeChoice("given", ValueRange(low, high, low), hounsfield)
    if hounsfield:
        name: EvaluationRange = range_name or "2025"
        return RangeChoice(name, evaluation_range(name), True)
    if range_name is not None and descriptor is not None:
        raise GdmError(
            f"range {range_name} is for Hounsfield units",
            found=f"target {descriptor.target_name}",
            expected=f"a target of {' or '.join(HU_MODALITIES)}",
            remedy="give --data-range LOW HIGH, or no range (every case on its own reference's range)",
        )
    return RangeChoice("reference", None, False)
