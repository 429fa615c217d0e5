"""Scores that look at one voxel at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdmunet.metrics.ranges import ValueRange, values_inside

# HU limits of the tissue classes, taken on the target.
AIR_BELOW = -200.0
BONE_ABOVE = 200.0


@dataclass(frozen=True)
class TissueErrors:
    """Mean absolute error in HU by tissue class of the target; None where the mask holds no such voxel.

    Attributes
    ----------
    air, soft, bone
        Target below -200 HU, from -200 to 200 HU, above 200 HU.
    """

    air: float | None
    soft: float | None
    bone: float | None


def mae(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean absolute error over the mask's voxels, in the images' unit.

    Nothing is clipped: a prediction of 6000 HU counts in full, as SynthRAD2025 counts it.

    Parameters
    ----------
    target, prediction
        (z, y, x), any numeric type.
    mask
        (z, y, x), above 0 counts; None: the whole volume.
    """
    values, predicted = values_inside(target, prediction, mask)
    return float(np.abs(values - predicted).mean())


def rmse(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Root of the mean squared error over the mask's voxels, in the images' unit, nothing clipped."""
    values, predicted = values_inside(target, prediction, mask)
    return float(np.sqrt(np.square(predicted - values).mean()))


def bias(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of prediction - target over the mask's voxels: above 0 if the prediction is too bright."""
    values, predicted = values_inside(target, prediction, mask)
    return float((predicted - values).mean())


def psnr(target: np.ndarray, prediction: np.ndarray, value_range: ValueRange, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(width^2 / MSE), as SynthRAD2025 defines it.

    Both images are clipped to `value_range` first; the MSE is over the mask's voxels. Infinite where the clipped
    images are identical.
    """
    values, predicted = values_inside(target, prediction, mask)
    low, high = value_range.low, value_range.high
    error = float(np.square(np.clip(values, low, high) - np.clip(predicted, low, high)).mean())
    return float("inf") if error == 0 else float(10 * np.log10(value_range.width**2 / error))


def tissue_mae(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> TissueErrors:
    """Mean absolute error (HU, not clipped) in air, soft tissue and bone of the target."""
    values, predicted = values_inside(target, prediction, mask)
    error = np.abs(values - predicted)
    air, bone = values < AIR_BELOW, values > BONE_ABOVE
    parts = (error[chosen] for chosen in (air, ~air & ~bone, bone))
    return TissueErrors(*(float(part.mean()) if part.size else None for part in parts))
