"""Is a volume in Hounsfield units? Read off its values alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdmunet.hounsfield import is_hounsfield
from gdmunet.plausibility.measures import AIR_BELOW, TISSUE_ABOVE, VolumeMeasures

TISSUE = (-300.0, 300.0)
# Medians beyond these cannot be tissue; between them and `TISSUE` lie contrast medium and bone.
_IMPOSSIBLE = (-800.0, 800.0)
# Noise and grey matter alone span more than this.
_LEAST_WIDTH = 20.0
# Deepest padding and highest metal of a scanner, with a reserve.
_DEEPEST, _HIGHEST = -3100.0, 4000.0
# Share of voxels with one value, the lowest, from which on it is the end of a window.
_AT_THE_END = 0.05
# Width of a bin of the histogram that separates dark from bright.
_BINS = 128
# Air and soft tissue lie 1000 HU apart.
_AIR_TO_TISSUE = (800.0, 1250.0)
# A volume divided by less than this cannot be told from gas in the bowel.
_LEAST_DIVISOR = 1.6
# Place of the border between the darkest and the brightest value below which the dark class surrounds the body.
_DARK_BORDER = 0.15
# HU between the quartiles of a whole volume: noise alone makes more.
_LEAST_QUARTILES = 4.0
EXPECTED = f"Hounsfield units: air below {AIR_BELOW:g}, and a median of the tissue from {TISSUE[0]:g} to {TISSUE[1]:g}"


@dataclass(frozen=True)
class UnitDoubt:
    """The reason why values are not, or may not be, Hounsfield units."""

    found: str
    wrong: bool


@dataclass(frozen=True)
class _Classes:
    """A dark and a bright class of values: their medians, the spread of the dark one, and the share between both."""

    dark: float
    bright: float
    dark_share: float
    dark_spread: float
    between_share: float


def doubt_of_hounsfield(sample: np.ndarray, numbers: VolumeMeasures) -> UnitDoubt | None:
    """Why a volume that claims to be in HU is not, by an even sample of its voxels (z, y, x); None if it is.

    A volume without air outside (a crop inside the body) passes if its values are those of tissue.
    """
    low, high = numbers.low, numbers.high
    values = f"values {low:.4g} to {high:.4g}"
    if high - low < _LEAST_WIDTH:
        return UnitDoubt(f"{values}, no air near -1000", wrong=True)
    if low <= AIR_BELOW:
        return _doubt_with_air(sample, numbers, values)
    if numbers.negative_share < 1e-4:
        return UnitDoubt(f"{values}, no air near -1000 and nothing below 0", wrong=True)
    end = float(sample.min())
    at_end = float(np.mean(sample == end))
    if at_end >= _AT_THE_END:
        return UnitDoubt(f"{values}, {100 * at_end:.0f} % of the voxels are {end:.4g}, the lowest value", wrong=True)
    classes = _classes(sample)
    if _is_offset(classes):
        offset = f"dark {classes.dark:.0f} and bright {classes.bright:.0f}, as HU with {classes.dark + 1000:+.0f}"
        return UnitDoubt(f"{values}, no air near -1000; {offset}", wrong=True)
    if classes.dark < -20 and classes.dark_share > 0.15 and classes.dark_spread < 0.05:
        return UnitDoubt(f"{values}, the air outside is {classes.dark:.0f}", wrong=True)
    scaled = _doubt_of_scale(sample, classes, numbers, f"{values}, no air near -1000")
    return scaled or _doubt_of_median(float(np.median(sample)), f"{values}, no air near -1000, median")


def looks_like_ct(sample: np.ndarray, numbers: VolumeMeasures) -> bool:
    """Whether the sample of a volume of another modality has the values of a CT: air at -1000, and tissue around 0."""
    if not (numbers.low <= AIR_BELOW and numbers.air_share >= 0.03 and numbers.high > 0):
        return False
    tissue = sample[sample > TISSUE_ABOVE]
    if tissue.size < 0.02 * sample.size or not TISSUE[0] <= float(np.median(tissue)) <= TISSUE[1]:
        return False
    return float(np.mean(sample < -1500)) < 0.05


def is_ct_word(word: str) -> bool:
    """Whether a modality may be in HU: CT and CBCT are, and words with CT in them (LDCT) may be."""
    return is_hounsfield(word) or "CT" in word.upper()


def _doubt_with_air(sample: np.ndarray, numbers: VolumeMeasures, values: str) -> UnitDoubt | None:
    """A volume that reaches air: it may lie too deep, be too wide, or have something else for tissue."""
    soft = float(np.mean(np.abs(sample) <= 200))
    if _lies_deep(sample, soft):
        return UnitDoubt(f"{values}, {100 * soft:.0f} % of the voxels from -200 to 200", wrong=True)
    if numbers.high > _HIGHEST:
        return UnitDoubt(f"{values}, beyond {_HIGHEST:g}", wrong=float(np.mean(sample < _DEEPEST)) >= 0.05)
    if numbers.tissue is None:
        return UnitDoubt(f"{values}, no tissue above {TISSUE_ABOVE:g}", wrong=False)
    return _doubt_of_median(numbers.tissue, f"{values}, median of the tissue")


def _lies_deep(sample: np.ndarray, soft: float) -> bool:
    """Whether air is where nothing but padding may be, and tissue where air should be; `soft`: share near 0."""
    deep = sample[sample < -1500]
    if deep.size < 0.05 * sample.size:
        return False
    ends = np.percentile(deep, (5, 95))
    padding = ends[0] == ends[1]
    return soft < (0.05 if padding else max(0.05, float(np.mean(np.abs(sample + 1024) <= 200))))


def _doubt_of_scale(sample: np.ndarray, classes: _Classes, numbers: VolumeMeasures, values: str) -> UnitDoubt | None:
    """HU that were divided: air, tissue and bone stand to each other as in HU, each too near to 0.

    Fat and muscle in a crop have values between both, and bone beyond what the divisor would make of it.
    """
    divisor = 1000 / max(classes.bright - classes.dark, 1e-3)
    like_air = classes.dark_share >= 0.03 and classes.dark_spread < 0.25 and classes.between_share < 0.08
    near_zero = abs(classes.bright) * divisor < TISSUE[1] and numbers.high * divisor <= _HIGHEST
    if like_air and near_zero and divisor >= _LEAST_DIVISOR:
        found = f"{values}; dark {classes.dark:.0f} and bright {classes.bright:.0f}, as HU divided by {divisor:.2g}"
        return UnitDoubt(found, wrong=numbers.border < _DARK_BORDER and classes.dark_share > 0.15)
    first, third = np.percentile(sample, (25, 75))
    if third - first < _LEAST_QUARTILES:
        return UnitDoubt(f"{values}; half of the voxels lie from {first:.3g} to {third:.3g}", wrong=False)
    return None


def _doubt_of_median(median: float, values: str) -> UnitDoubt | None:
    if TISSUE[0] <= median <= TISSUE[1]:
        return None
    return UnitDoubt(f"{values} {median:.0f}", wrong=not _IMPOSSIBLE[0] <= median <= _IMPOSSIBLE[1])


def _is_offset(classes: _Classes) -> bool:
    """Air and tissue lie as far apart as in HU, elsewhere; bone in a crop of the body has values between both."""
    apart = _AIR_TO_TISSUE[0] <= classes.bright - classes.dark <= _AIR_TO_TISSUE[1]
    return apart and 0.05 < classes.dark_share < 0.95 and classes.between_share < 0.25 * (1 - classes.dark_share)


def _classes(sample: np.ndarray) -> _Classes:
    """Two classes by Otsu's threshold (the largest variance between them)."""
    values = sample.ravel()
    low, high = np.percentile(values, (0.5, 99.5))
    counts, edges = np.histogram(values, bins=_BINS, range=(float(low), float(high)))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * middles)[:-1]
    total = float((counts * middles).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (total - sums) / above) ** 2
    threshold = edges[1 + int(np.nanargmax(between))]
    dark, bright = values[values < threshold], values[values >= threshold]
    first, second = float(np.median(dark)), float(np.median(bright))
    quarter = (second - first) / 4
    quartiles = np.percentile(dark, (25, 75))
    return _Classes(
        dark=first,
        bright=second,
        dark_share=dark.size / values.size,
        dark_spread=float(quartiles[1] - quartiles[0]) / max(second - first, 1e-6),
        between_share=float(np.mean((values > first + quarter) & (values < second - quarter))),
    )
