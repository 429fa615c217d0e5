"""The metrics, one row for each: the only place that knows a metric's unit, direction, label and decimals.

A new metric is a function in a file of this folder and a row of `_ROWS`. Every table, page and file reads the rows.
Metrics of users' own (`own.py`) are enrolled while they are scored, and while files that hold their scores are read.
"""

from __future__ import annotations

from collections.abc import Collection

from gdmunet.errors import GdmError
from gdmunet.metrics.detail import detail_ratio
from gdmunet.metrics.information import nmi
from gdmunet.metrics.metric import Metric
from gdmunet.metrics.pointwise import bias, mae, psnr, rmse
from gdmunet.metrics.spectrum import BANDS

_NO_SPECTRUM = "undefined: no block of the mask has a spectrum in the reference (a constant image, or a thin mask)"
_ROWS = (
    Metric(
        name="mae",
        label="MAE",
        unit="target",
        best="low",
        decimals=2,
        meaning="mean absolute error in the mask, not clipped",
        years=("2023", "2025"),
        main=True,
        score=lambda pair: mae(*pair.values),
    ),
    Metric(
        name="psnr",
        label="PSNR",
        unit="dB",
        best="high",
        decimals=2,
        meaning="peak signal-to-noise ratio on the clipped images, 10 log10(L^2 / MSE), L the length of the range",
        years=("2023", "2025"),
        main=True,
        score=lambda pair: psnr(*pair.values, pair.value_range),
        undefined="infinite: the images are identical in the mask once clipped to the range",
    ),
    Metric(
        name="ms_ssim",
        label="MS-SSIM",
        unit="ratio",
        best="high",
        decimals=4,
        meaning="masked multi-scale SSIM as SynthRAD2025 computes it: five levels, uniform 7^3 window, luminance at "
        "every level",
        years=("2025",),
        main=True,
        score=lambda pair: pair.structure.ms_ssim,
        undefined="undefined: no voxel of the mask is left at the coarsest level, away from the volume's border",
    ),
    Metric(
        name="ssim",
        label="SSIM",
        unit="ratio",
        best="high",
        decimals=4,
        meaning="structural similarity (scikit-image's map, 7^3 window), mean over the mask",
        years=("2023",),
        main=True,
        score=lambda pair: pair.structure.ssim,
        undefined="undefined: the mask lies within three voxels of the volume's border",
    ),
    Metric(
        name="rmse",
        label="RMSE",
        unit="target",
        best="low",
        decimals=2,
        meaning="root mean squared error in the mask, not clipped",
        score=lambda pair: rmse(*pair.values),
    ),
    Metric(
        name="bias",
        label="bias",
        unit="target",
        best=0.0,
        decimals=2,
        meaning="mean of prediction - target in the mask, not clipped",
        score=lambda pair: bias(*pair.values),
    ),
    Metric(
        name="nmi",
        label="NMI",
        unit="ratio",
        best="high",
        decimals=4,
        meaning="normalised mutual information in the mask, 1 (none) to 2",
        score=lambda pair: nmi(*pair.values, pair.value_range),
        undefined="undefined: both images are constant in the mask",
    ),
    Metric(
        name="detail",
        label="detail",
        unit="ratio",
        best=1.0,
        decimals=3,
        meaning="energy of fine detail (volume less its 3^3 mean) in the mask over the target's; below 1 is blurred",
        score=lambda pair: detail_ratio(pair.target, pair.prediction, pair.mask),
        undefined="undefined: the mask is less than three voxels thick, or the target is constant",
    ),
    Metric(
        name="fsc_quarter",
        label="FSC 1/4",
        unit="ratio",
        best="high",
        decimals=4,
        meaning="Fourier shell correlation with the target at a quarter of Nyquist, in blocks inside the mask; 1 is "
        "perfect, and a filter cancels in it",
        main=True,
        score=lambda pair: pair.spectra.correlation(0.25) if pair.spectra else None,
        undefined=_NO_SPECTRUM,
    ),
    Metric(
        name="fsc_half",
        label="FSC 1/2",
        unit="ratio",
        best="high",
        decimals=4,
        meaning="Fourier shell correlation with the target at half of Nyquist",
        main=True,
        score=lambda pair: pair.spectra.correlation(0.5) if pair.spectra else None,
        undefined=_NO_SPECTRUM,
    ),
    Metric(
        name="nps",
        label="NPS distance",
        unit="dB",
        best="low",
        decimals=2,
        meaning="difference of the noise power spectra of prediction and target in the flattest quarter of the blocks, "
        "mean of the absolute values over three bands",
        main=True,
        score=lambda pair: pair.spectra.noise_distance() if pair.spectra else None,
        undefined=_NO_SPECTRUM,
    ),
    *(
        Metric(
            name=f"nps_{band}",
            label=f"NPS {band}",
            unit="dB",
            best=0.0,
            decimals=2,
            meaning=f"noise power of the prediction over that of the target from {first - 0.5:g}/8 to {last + 0.5:g}/8 "
            "of Nyquist; below 0 is blurred",
            score=lambda pair, band=band: pair.spectra.band_difference(band) if pair.spectra else None,  # type: ignore[misc]
            undefined=_NO_SPECTRUM,
        )
        for band, (first, last) in BANDS.items()
    ),
    Metric(
        name="mae_air",
        label="MAE air",
        unit="target",
        best="low",
        decimals=2,
        meaning="mean absolute error where the target is below -200 HU",
        basis="tissue",
        score=lambda pair: pair.tissue.air,
        undefined="the target has no air in the mask",
    ),
    Metric(
        name="mae_soft",
        label="MAE soft",
        unit="target",
        best="low",
        decimals=2,
        meaning="mean absolute error where the target is -200 to 200 HU",
        basis="tissue",
        score=lambda pair: pair.tissue.soft,
        undefined="the target has no soft tissue in the mask",
    ),
    Metric(
        name="mae_bone",
        label="MAE bone",
        unit="target",
        best="low",
        decimals=2,
        meaning="mean absolute error where the target is above 200 HU",
        basis="tissue",
        score=lambda pair: pair.tissue.bone,
        undefined="the target has no bone in the mask",
    ),
    Metric(
        name="dice",
        label="Dice",
        unit="ratio",
        best="high",
        decimals=4,
        meaning="Dice coefficient, mean over the structures of the reference's label map",
        years=("2025",),
        basis="label maps",
    ),
    Metric(
        name="hd95",
        label="HD95",
        unit="mm",
        best="low",
        decimals=2,
        meaning="95 % Hausdorff distance, mean over the structures of both label maps",
        years=("2025",),
        basis="label maps",
    ),
    Metric(
        name="c2st",
        label="C2ST",
        unit="ratio",
        best=0.5,
        decimals=3,
        meaning="area under the ROC curve of a small classifier that tells patches of the case's prediction from those "
        "of its reference, after training on other cases; 0.5: they look alike",
        main=True,
        basis="judge",
    ),
    Metric(
        name="frechet",
        label="Frechet",
        unit="distance",
        best="low",
        decimals=2,
        meaning="Frechet distance of all predictions from all references in an encoder's features, over the trace of "
        "the references' covariance",
        basis="cases",
    ),
    Metric(
        name="mmd",
        label="MMD",
        unit="distance",
        best=0.0,  # the unbiased estimate of equal distributions lies on both sides of 0
        decimals=2,
        meaning="squared maximum mean discrepancy of all predictions from all references in an encoder's features",
        basis="cases",
    ),
    Metric(
        name="price",
        label="price ratio",
        unit="ratio",
        best="low",
        decimals=2,
        meaning="rise of the squared error over the squared gain in the root of the Frechet distance, as shares, "
        "both against the first trainer of a comparison; on the optimal path it is constant and at most 1",
        basis="cases",
    ),
    Metric(
        name="seam",
        label="seam score",
        unit="ratio",
        best=1.0,
        decimals=3,
        meaning="mean jump across the borders of the prediction's windows over the mean jump elsewhere",
        basis="windows",
    ),
)

# Name to row, in the order of tables.
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}
# What distance costs in error, for the tables of a comparison.
PRICE = METRICS["price"]
# The metric that decides where one number must: which model, and which case is the worst.
DECIDING = "mae"


def enrol(metric: Metric) -> Metric:
    """Add the row of a user's metric.

    Raises
    ------
    GdmError
        The name is that of a metric of gdmunet, or two files describe the user's metric in different ways.
    """
    known = METRICS.setdefault(metric.name, metric)
    if known != metric:
        raise GdmError(
            "two metrics have the same name",
            found=f"{metric.name}: {known.label} ({known.unit}, best {known.best}), and {metric.label} ({metric.unit}, "
            f"best {metric.best})",
            expected="one description of each",
            remedy="rename the function and score again",
        )
    return known


def metrics_in(names: Collection[str]) -> tuple[Metric, ...]:
    """Rows of the known names among `names`, in the order of tables."""
    return tuple(metric for name, metric in METRICS.items() if name in names)


def metric_of_cases(name: str) -> Metric:
    """The row of a metric that every case has.

    Raises
    ------
    GdmError
        Unknown name, or a metric of whole sets of cases.
    """
    known = [
        metric.name for metric in METRICS.values() if metric.basis in ("images", "tissue", "label maps", "judge", "own")
    ]
    if name not in known:
        raise GdmError("the metric is unknown", found=name, expected=", ".join(known), remedy="choose one of these")
    return METRICS[name]
