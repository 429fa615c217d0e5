"""Raw intensities to network units and exactly back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gdmunet.errors import GdmError

if TYPE_CHECKING:
    from gdmunet.plans import NormalizationSpec


@dataclass(frozen=True)
class IntensityMap:
    """One affine map with a clip range: the form that every normalisation scheme has for a single volume.

    Attributes
    ----------
    clip_low, clip_high
        Raw units; values outside are lost.
    offset, scale
        network = (clip(raw) - offset) / scale.
    """

    clip_low: float
    clip_high: float
    offset: float
    scale: float

    def __post_init__(self) -> None:
        numbers = (self.clip_low, self.clip_high, self.offset, self.scale)
        if not all(map(math.isfinite, numbers)) or self.scale <= 0 or self.clip_low >= self.clip_high:
            raise GdmError(
                "an intensity map cannot be inverted",
                found=f"clip {self.clip_low:g}..{self.clip_high:g}, offset {self.offset:g}, scale {self.scale:g}",
                expected="finite numbers, a clip range that is not empty, a positive scale",
                remedy="give a scale above 0 and a clip range that rises",
            )

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Raw units of any shape to network units, float32; the input is not changed."""
        mapped: np.ndarray = np.clip(array, self.clip_low, self.clip_high).astype(np.float32, copy=False)
        mapped -= np.float32(self.offset)
        mapped /= np.float32(self.scale)
        return mapped

    def invert(self, array: np.ndarray) -> np.ndarray:
        """Network units of any shape to raw units inside the clip range, float32; the input is not changed."""
        raw: np.ndarray = np.multiply(array, np.float32(self.scale), dtype=np.float32)
        raw += np.float32(self.offset)
        np.clip(raw, np.float32(self.clip_low), np.float32(self.clip_high), out=raw)
        return raw


def fit_map(array: np.ndarray, mask: np.ndarray, spec: NormalizationSpec) -> IntensityMap:
    """The map of one volume under a scheme.

    Parameters
    ----------
    array
        One channel (z, y, x) in raw units.
    mask
        Body (z, y, x); ``percentile_zscore`` looks at these voxels only.
    spec
        The scheme and its constants.

    Raises
    ------
    GdmError
        The body holds one single value, so that it has no standard deviation, or no voxel at all.
    """
    if spec.scheme == "affine":
        return IntensityMap(*spec.clip, spec.offset, spec.scale)
    body = array[mask]
    if body.size == 0:
        raise GdmError("the body mask has no voxel", remedy="make the mask again, or leave the case out")
    low, high = (float(value) for value in np.percentile(body, spec.clip))
    # Float64 sums: millions of float32 values lose digits otherwise.
    np.clip(body, low, high, out=body)
    mean, deviation = float(body.mean(dtype=np.float64)), float(body.std(dtype=np.float64))
    if not low < high or deviation <= 1e-6 * max(abs(low), abs(high)):
        raise GdmError(
            "the intensities inside the body do not vary, so they cannot be normalised",
            found=f"percentiles {spec.clip[0]:g} and {spec.clip[1]:g} are {low:g} and {high:g}",
            expected="an image inside the body mask",
            remedy="check that image and mask belong together, or leave the case out",
        )
    return IntensityMap(low, high, mean, deviation)
