"""The range of values that a score refers to, and the checks that every score shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.hounsfield import HU_AIR, HU_RANGE
from gdmunet.quantities import counted

EvaluationRange = Literal["2023", "2025"]


@dataclass(frozen=True)
class ValueRange:
    """The span of valid values of a target.

    Attributes
    ----------
    low, high
        Images are clipped to these for PSNR, SSIM and MS-SSIM, whose dynamic range is high - low.
    background
        Value outside the mask, in the same unit.
    """

    low: float
    high: float
    background: float

    def __post_init__(self) -> None:
        if not np.isfinite([self.low, self.high, self.background]).all() or self.low >= self.high:
            raise GdmError(
                "a value range needs a low end below its high end, both finite",
                found=f"low {self.low}, high {self.high}, background {self.background}",
                remedy="give the range of the target's values, for example --data-range 0 1000",
            )

    @property
    def width(self) -> float:
        """Dynamic range: high - low."""
        return self.high - self.low


# SynthRAD2025 scores CT on 4095 HU; SynthRAD2023 ended at 3000 HU, so 4024.
HU_2025 = ValueRange(*HU_RANGE, background=HU_AIR)
HU_2023 = ValueRange(HU_AIR, 3000.0, background=HU_AIR)


def evaluation_range(name: str) -> ValueRange:
    """The range of that challenge year, ``"2023"`` or ``"2025"``."""
    known = {"2023": HU_2023, "2025": HU_2025}
    if name not in known:
        raise GdmError("unknown evaluation range", found=name, expected=", ".join(known), remedy="choose one of these")
    return known[name]


def mask_of(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The mask as bool (above 0 counts; None: the whole volume) after the checks that every score needs.

    Raises
    ------
    GdmError
        Shapes that differ, or a mask without a voxel.
    """
    if target.shape != prediction.shape:
        raise GdmError(
            "target and prediction differ in shape",
            found=prediction.shape,
            expected=target.shape,
            remedy="give both on one grid",
        )
    if mask is None:
        return np.ones(target.shape, dtype=bool)
    if mask.shape != target.shape:
        raise GdmError(
            "target and mask differ in shape", found=mask.shape, expected=target.shape, remedy="give both on one grid"
        )
    inside = np.asarray(mask) > 0
    if not inside.any():
        raise GdmError(
            "the mask has no voxel",
            found="nothing above 0",
            expected="a body mask",
            remedy="make the mask again, or leave the case out",
        )
    return inside


def values_inside(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Target and prediction at the mask's voxels, (voxels,) float64 each; a value that is not finite is an error."""
    inside = mask_of(target, prediction, mask)
    chosen = (volume.ravel() if mask is None else volume[inside] for volume in (target, prediction))
    pair = tuple(values.astype(np.float64, copy=False) for values in chosen)
    for name, values in zip(("target", "prediction"), pair, strict=True):
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise GdmError(
                f"the {name} has values that are not numbers inside the mask",
                found=f"{counted(bad, 'voxel')} of NaN or infinity",
                expected="finite values",
                remedy="mend the file, or leave the case out",
            )
    return pair[0], pair[1]


def filled(image: np.ndarray, inside: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """`image` clipped to the range, the background outside the mask, float64.

    The background is clipped too: the challenge clips after it has masked.
    """
    background = np.clip(value_range.background, value_range.low, value_range.high)
    return np.where(inside, np.clip(image.astype(np.float64), value_range.low, value_range.high), background)
