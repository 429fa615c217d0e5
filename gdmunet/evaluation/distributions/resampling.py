"""Bootstrap over cases: the unit of every interval, since the voxels of one patient are not independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class BootstrapSpec:
    """Options of the bootstrap intervals; `confidence` is a share, `seed` makes them the same every time."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def draws(self, count: int) -> np.ndarray:
        """(resamples, count) indices of cases, drawn with replacement."""
        return np.random.default_rng(self.seed).integers(count, size=(self.resamples, count))

    def interval(self, statistics: np.ndarray) -> tuple[float, float]:
        """The middle `confidence` of a statistic's values over the resamples (percentile interval).

        Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
        """
        tail = (1 - self.confidence) / 2
        # Nothing lies between a number and infinity.
        method: Literal["linear", "inverted_cdf"] = "linear" if np.isfinite(statistics).all() else "inverted_cdf"
        low, high = np.quantile(statistics, (tail, 1 - tail), method=method)
        return float(low), float(high)


def bootstrap_interval(values: np.ndarray, resampling: BootstrapSpec) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (n,)."""
    return resampling.interval(values[resampling.draws(len(values))].mean(axis=1))
