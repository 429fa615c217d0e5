"""Normalised mutual information inside a mask."""

from __future__ import annotations

import numpy as np

from gdmunet.metrics.ranges import ValueRange, values_inside


def nmi(
    target: np.ndarray,
    prediction: np.ndarray,
    value_range: ValueRange,
    mask: np.ndarray | None = None,
    bins: int = 100,
) -> float:
    """Normalised mutual information (H(x) + H(y)) / H(x, y) of the mask's voxels, 1 to 2 (Studholme et al. 1999).

    The joint histogram has `bins` equal bins along each axis over `value_range`, to which the images are clipped. Two
    images that are each one bin wide have no information: NaN.
    """
    pair = values_inside(target, prediction, mask)
    low, high = value_range.low, value_range.high
    x, y = (np.clip(values, low, high) for values in pair)
    joint = np.histogram2d(x, y, bins=bins, range=((low, high), (low, high)))[0] / x.size
    joint_entropy = _entropy(joint)
    if joint_entropy == 0:
        return float("nan")
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / joint_entropy


def _entropy(shares: np.ndarray) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())
