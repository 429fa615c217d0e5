"""Numbers of one volume from an even sample of its voxels: cheap beside reading it, and stored with the fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdmunet.hounsfield import is_hounsfield

# Voxels of a sample along one axis, at most: 64,000 in all tell shares of a thousandth and medians apart.
_EDGE = 40
AIR_BELOW = -900.0
TISSUE_ABOVE = -500.0
# Half the edge of the middle plane in which neighbours are compared.
_HALF = 48
# Values that are looked at for quantiles.
_MOST_VALUES = 12_000


@dataclass(frozen=True)
class VolumeMeasures:
    """Numbers of one volume.

    Attributes
    ----------
    low, high
        0.5 and 99.5 percentile of the volume, in raw units.
    negative_share, air_share
        Share of the voxels below 0, and below -900.
    border
        Median of the six outermost planes, as a place between `low` (0) and `high` (1).
    structure
        Correlation of neighbouring voxels: about 0 for noise, near 1 for images.
    tissue
        Median of the body's voxels in raw units; of a CT only those above -500 HU. None: no such voxel.
    level
        `tissue` as a place between `low` (0) and `high` (1): it does not depend on the scale.
    """

    low: float
    high: float
    negative_share: float
    air_share: float
    border: float
    structure: float
    tissue: float | None
    level: float | None


def sampled(array: np.ndarray) -> np.ndarray:
    """Every n-th voxel along each axis, so that a volume keeps 40 along each at most, next to each other in memory."""
    return np.ascontiguousarray(array[tuple(slice(None, None, max(1, -(-size // _EDGE))) for size in array.shape)])


def measure(array: np.ndarray, sample: np.ndarray, sampled_body: np.ndarray | None, modality: str) -> VolumeMeasures:
    """Measure a volume.

    Parameters
    ----------
    array
        (z, y, x) in raw units, finite.
    sample
        `sampled` of it.
    sampled_body
        `sampled` of the body mask, bool; None: the whole volume counts.
    modality
        Word of the volume.
    """
    inside = sample.ravel() if sampled_body is None else sample[sampled_body]
    if is_hounsfield(modality):
        inside = inside[inside > TISSUE_ABOVE]
    low, high = (float(value) for value in np.percentile(_fewer(sample), (0.5, 99.5)))
    width = high - low if high > low else 1.0
    tissue = float(np.median(_fewer(inside))) if inside.size else None
    return VolumeMeasures(
        low=low,
        high=high,
        negative_share=float(np.count_nonzero(sample < 0) / sample.size),
        air_share=float(np.count_nonzero(sample < AIR_BELOW) / sample.size),
        border=float(np.clip((_border(array) - low) / width, 0, 1)),
        structure=_structure(array),
        tissue=tissue,
        level=None if tissue is None else float(np.clip((tissue - low) / width, 0, 1)),
    )


def _fewer(values: np.ndarray) -> np.ndarray:
    flat = values.ravel()
    return flat[:: max(1, -(-flat.size // _MOST_VALUES))]


def _border(array: np.ndarray) -> float:
    """Median of the six outermost planes, each with the same weight for its voxels."""
    planes = [np.moveaxis(array, axis, 0)[end] for axis in range(3) for end in (0, -1)]
    values = [plane[:: max(1, plane.shape[0] // 32), :: max(1, plane.shape[1] // 32)].ravel() for plane in planes]
    return float(np.median(np.concatenate(values)))


def _structure(array: np.ndarray) -> float:
    """The largest correlation of a middle plane with itself, moved by one voxel along an axis, over the three axes."""
    found = []
    for axis in range(3):
        if array.shape[axis] < 2:
            continue
        across = max((other for other in range(3) if other != axis), key=lambda other: array.shape[other])
        window = [slice(max(0, size // 2 - _HALF), size // 2 + _HALF) for size in array.shape]
        middle = array[tuple(size // 2 if n == across else window[n] for n, size in enumerate(array.shape))]
        along = np.moveaxis(middle, axis - (across < axis), 0).astype(np.float64)
        along -= along.flat[0]  # numbers near 0, whose squares are exact enough
        found.append(_correlation(along[:-1].ravel(), along[1:].ravel()))
    return max(found, default=1.0)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two vectors; 1 if either is constant."""
    first, second, count = one.mean(), other.mean(), one.size
    spread = np.sqrt(max(0.0, one @ one / count - first**2) * max(0.0, other @ other / count - second**2))
    return 1.0 if spread == 0 else float((one @ other / count - first * second) / spread)
