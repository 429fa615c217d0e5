"""SSIM and normalised mutual information inside a mask."""

from __future__ import annotations

import numpy as np

from gdmunet.metrics.ranges import ValueRange, filled, mask_of, values_inside
from gdmunet.metrics.structural import extend_to_window, local_statistics, without_margin


def ssim(target: np.ndarray, prediction: np.ndarray, value_range: ValueRange, mask: np.ndarray | None = None) -> float:
    """Structural similarity, mean over the mask, -1 to 1 (Wang et al. 2004; scikit-image's uniform 7^3 window).

    Both images are clipped to `value_range` and set to its background outside the mask; the three outermost
    voxels of the volume are left out, as in scikit-image. Axes shorter than seven voxels are extended by their
    edge values. NaN where the mask lies in those three voxels only.
    """
    inside = mask_of(target, prediction, mask)
    x, y = (extend_to_window(filled(image, inside, value_range) - value_range.low) for image in (target, prediction))
    chosen = without_margin(extend_to_window(inside))
    if not chosen.any():
        return float("nan")
    local = local_statistics(x, y, chosen)
    c1, c2 = (0.01 * value_range.width) ** 2, (0.03 * value_range.width) ** 2
    above = (2 * local.mean_x * local.mean_y + c1) * (2 * local.covariance + c2)
    below = (local.mean_x**2 + local.mean_y**2 + c1) * (local.variance_x + local.variance_y + c2)
    return float((above / below).mean())


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
