"""All scores of one pair in one call, in a form that JSON can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from gdmunet.metrics.detail import detail_ratio
from gdmunet.metrics.pointwise import bias, mae, psnr, rmse, tissue_mae
from gdmunet.metrics.ranges import ValueRange, values_inside
from gdmunet.metrics.similarity import nmi, ssim
from gdmunet.metrics.structural import ms_ssim

# Name in summary.json to what it means, in the order of tables.
METRIC_TEXTS = {
    "mae": "mean absolute error in the mask, not clipped",
    "psnr": "peak signal-to-noise ratio in dB on the clipped images",
    "ms_ssim": "masked multi-scale SSIM as SynthRAD2025 computes it",
    "ssim": "structural similarity, 7^3 window, mean over the mask",
    "rmse": "root mean squared error in the mask, not clipped",
    "bias": "mean of prediction - target in the mask, not clipped",
    "nmi": "normalised mutual information, 1 (none) to 2",
    "detail": "energy of fine detail (volume less its 3^3 mean) over the target's: 1 is right, less is blurred",
    "mae_air": "mean absolute error where the target is below -200 HU",
    "mae_soft": "mean absolute error where the target is -200 to 200 HU",
    "mae_bone": "mean absolute error where the target is above 200 HU",
    "dice": "Dice coefficient, mean over the structures of the reference's label map",
    "hd95": "95 % Hausdorff distance in mm, mean over the structures of both label maps",
}
HIGHER_IS_BETTER = frozenset({"psnr", "ms_ssim", "ssim", "nmi", "dice"})


@dataclass(frozen=True)
class ImageScores:
    """Scores of one case.

    Attributes
    ----------
    values
        Name of the score (a key of `METRIC_TEXTS`) to its value; None where the score has no finite value.
    notes
        Why a value is None, or what it leaves out.
    """

    values: dict[str, float | None]
    notes: dict[str, str] = field(default_factory=dict)


def score_pair(
    target: np.ndarray,
    prediction: np.ndarray,
    value_range: ValueRange,
    mask: np.ndarray | None = None,
    *,
    hounsfield: bool = True,
) -> ImageScores:
    """Every score of images in `METRIC_TEXTS`; the tissue classes only where the values are Hounsfield units.

    Parameters
    ----------
    target, prediction, mask
        (z, y, x); mask None: the whole volume.
    hounsfield
        False for MR and other targets, for which air and bone have no fixed values.

    Raises
    ------
    GdmError
        Shapes that differ, empty mask, values inside the mask that are not finite.
    """
    values_inside(target, prediction, mask)
    found: dict[str, float | None] = {
        "mae": mae(target, prediction, mask),
        "psnr": psnr(target, prediction, value_range, mask),
        "ms_ssim": ms_ssim(target, prediction, value_range, mask),
        "ssim": ssim(target, prediction, value_range, mask),
        "rmse": rmse(target, prediction, mask),
        "bias": bias(target, prediction, mask),
        "nmi": nmi(target, prediction, value_range, mask),
        "detail": detail_ratio(target, prediction, mask),
    }
    reasons = {
        "psnr": "infinite: the images are identical in the mask once clipped to the range",
        "ms_ssim": "undefined: no voxel of the mask is left at the coarsest level, away from the volume's border",
        "ssim": "undefined: the mask lies within three voxels of the volume's border",
        "nmi": "undefined: both images are constant in the mask",
        "detail": "undefined: the mask is less than three voxels thick, or the target is constant",
    }
    if hounsfield:
        tissue = tissue_mae(target, prediction, mask)
        found |= {"mae_air": tissue.air, "mae_soft": tissue.soft, "mae_bone": tissue.bone}
        reasons |= {f"mae_{name}": f"the target has no {name} in the mask" for name in ("air", "soft", "bone")}
    values = {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}
    return ImageScores(values, {name: reasons[name] for name, value in values.items() if value is None})
