"""Scores of one prediction against one target, inside a mask: pure functions on arrays (z, y, x).

`METRICS` has one row for each metric (`table.py`); nothing else in the package knows a metric's unit or direction.

All arithmetic is float64, whatever the arrays' type. The three scores of SynthRAD2025 (`mae`, `psnr`, `ms_ssim`) equal
its public evaluator. Values outside the mask never matter, not even NaN.
"""

from gdmunet.metrics.detail import detail_ratio
from gdmunet.metrics.information import nmi
from gdmunet.metrics.metric import ImagePair, Metric
from gdmunet.metrics.own import OwnMetricSpec, described, own_metrics
from gdmunet.metrics.pointwise import TissueErrors, bias, mae, psnr, rmse, tissue_mae
from gdmunet.metrics.ranges import HU_2023, HU_2025, EvaluationRange, ValueRange, evaluation_range
from gdmunet.metrics.scores import ImageScores, score_pair
from gdmunet.metrics.seams import seam_score
from gdmunet.metrics.structural import ms_ssim, ssim
from gdmunet.metrics.structures import StructureScores, dice, hd95, score_structures
from gdmunet.metrics.table import DECIDING, METRICS, PRICE, metric_of_cases, metrics_in

__all__ = [
    "DECIDING",
    "HU_2023",
    "HU_2025",
    "METRICS",
    "PRICE",
    "EvaluationRange",
    "ImagePair",
    "ImageScores",
    "Metric",
    "OwnMetricSpec",
    "StructureScores",
    "TissueErrors",
    "ValueRange",
    "bias",
    "described",
    "detail_ratio",
    "dice",
    "evaluation_range",
    "hd95",
    "mae",
    "metric_of_cases",
    "metrics_in",
    "ms_ssim",
    "nmi",
    "own_metrics",
    "psnr",
    "rmse",
    "score_pair",
    "score_structures",
    "seam_score",
    "ssim",
    "tissue_mae",
]
