"""Is a mask the body of its case?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.hounsfield import is_hounsfield
from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.measures import AIR_BELOW, TISSUE_ABOVE, sampled

# A mask of less than this share of the volume is a crumb.
_LEAST_SHARE = 0.001
# Shares of the mask that are tissue, and of the tissue that lies in the mask, below which mask and body are strangers.
_STRANGERS = 0.3
# Share of the volume that must be air before a mask of all voxels is doubted.
_MUCH_AIR = 0.1


@dataclass(frozen=True)
class MaskValues:
    """Values that a mask's file holds, beside 0.

    Attributes
    ----------
    smallest, largest
        Smallest value above 0, and the largest one.
    fractions
        Number of voxels whose value is not a whole number.
    several
        Whether there are several values above 0.
    """

    smallest: float
    largest: float
    fractions: int
    several: bool

    @classmethod
    def of(cls, stored: np.ndarray) -> MaskValues | None:
        """The values of a mask (z, y, x) that is finite and has a voxel above 0; None if they are one number."""
        largest = float(stored.max())
        if stored.dtype == bool or (stored.dtype.kind in "iu" and largest <= 1):
            return None
        above = stored[stored > 0]
        smallest = float(above.min())
        if smallest == largest == round(largest):
            return None
        fractions = 0 if stored.dtype.kind in "iu" else int(np.count_nonzero(above != np.rint(above)))
        return cls(smallest, largest, fractions, smallest < largest)


def check_values(values: MaskValues | None) -> list[Finding]:
    """Doubts about what a mask's file holds: every value above 0 would count as body."""
    if values is None:
        return []
    found = f"values from {values.smallest:.4g} to {values.largest:.4g} above 0"
    if values.fractions:
        return [
            Finding(
                "mask_values",
                wrong=True,
                problem="the mask has values between whole numbers, all of which would count as body",
                found=f"{found}, {values.fractions} voxels with a fraction",
                expected="0 and 1",
            )
        ]
    return [
        Finding(
            "mask_values",
            wrong=False,
            problem="the mask has several values, all of which count as body",
            found=found,
            expected="0 and 1",
        )
    ]


def check_place(mask: np.ndarray, conditions: Sequence[np.ndarray], modalities: Sequence[str]) -> list[Finding]:
    """Doubts about where a mask lies.

    Parameters
    ----------
    mask
        bool (z, y, x), with a voxel.
    conditions, modalities
        (z, y, x) in raw units each, and their words.
    """
    inside = sampled(mask)
    share = float(mask.mean(dtype=np.float64)) if mask.size < 1e6 else float(inside.mean())
    tissue, air = _tissue(conditions, modalities)
    of_mask = float(tissue[inside].mean()) if inside.any() else 0.0
    of_tissue = float(inside[tissue].mean()) if tissue.any() else 0.0
    found = (
        f"the mask fills {100 * share:.3g} % of the volume; {100 * of_mask:.0f} % of it is tissue, and it holds "
        f"{100 * of_tissue:.0f} % of the tissue"
    )
    expected = "a mask of the body that the condition shows"
    if of_mask < _STRANGERS and of_tissue < _STRANGERS:
        return [Finding("mask_place", True, "the mask is not where the condition shows the body", found, expected)]
    if share < _LEAST_SHARE:
        return [Finding("mask_place", False, "the mask is a crumb of the volume", found, expected)]
    if share > 0.999 and air > _MUCH_AIR:
        around = f"the mask fills {100 * share:.3g} % of the volume, and {100 * air:.0f} % of the volume are air"
        return [Finding("mask_place", False, "the mask is 1 nearly everywhere", around, expected)]
    return []


def _tissue(conditions: Sequence[np.ndarray], modalities: Sequence[str]) -> tuple[np.ndarray, float]:
    """Where any channel shows tissue (bool, sampled), and the share of the sample that is air in every channel."""
    tissue, air = None, None
    for array, modality in zip(conditions, modalities, strict=True):
        sample = sampled(array)
        if is_hounsfield(modality):
            bright, dark = sample > TISSUE_ABOVE, sample < AIR_BELOW
        else:
            low, high = np.percentile(sample, (0.5, 99.0))
            bright, dark = sample > low + 0.15 * (high - low), sample <= low + 0.03 * (high - low)
        tissue = bright if tissue is None else tissue | bright
        air = dark if air is None else air & dark
    assert tissue is not None
    assert air is not None
    return tissue, float(air.mean())
