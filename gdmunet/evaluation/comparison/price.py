"""What a gain in distance costs in error: the price ratio."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gdmunet.evaluation.comparison.paired import Comparison, TrainerRow
from gdmunet.metrics import DECIDING, PRICE


def price_of_distance(error_share: float, frechet_share: float) -> float | None:
    """Price ratio rho = ((1 + dMAE)^2 - 1) / t^2 with t = 1 - sqrt(FD / FD_first).

    The smallest squared error under a bound on the distance grows with the square of what the distance falls, so rho is
    constant on the optimal path and at most 1. Source: Freirich, Michaeli and Meir, arXiv 2107.02555.

    Parameters
    ----------
    error_share
        Mean absolute error over that of the first trainer, on the same cases.
    frechet_share
        Frechet distance over that of the first trainer.

    Returns
    -------
    rho; below 0 if the error fell too. None if the distance did not fall.
    """
    gain = 1 - max(frechet_share, 0.0) ** 0.5
    return (error_share**2 - 1) / gain**2 if gain > 0 else None


@dataclass(frozen=True)
class Price:
    """Price ratio of a trainer, and its 95 % interval over cases.

    Attributes
    ----------
    ratio
        See `price_of_distance`; None where the distance did not fall.
    interval
        Percentile bootstrap interval over cases, infinite where resamples have no gain; None where one trainer has no
        resamples of the same cases.
    """

    ratio: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """``0.31 [0.12, 0.90]``, or a dash."""
        value = PRICE.text(self.ratio, "")
        if self.ratio is None or self.interval is None:
            return value
        return f"{value} [{', '.join(PRICE.text(end, '') for end in self.interval)}]"


def price_ratio(comparison: Comparison, row: TrainerRow, encoder: str) -> Price:
    """`price_of_distance` of a trainer against the first; nothing for the first itself and where a part is missing."""
    first = comparison.rows[0]
    judgements = [one.judgement(encoder) for one in (first, row)]
    statistics = [comparison.statistics.get(one.trainer) for one in (first, row)]
    if row is first or judgements[0] is None or judgements[1] is None or statistics[0] is None or statistics[1] is None:
        return Price()
    before, after = (one.mean.get(DECIDING) for one in statistics if one is not None)
    if not before or after is None or judgements[0].frechet <= 0:
        return Price()
    ratio = price_of_distance(after / before, judgements[1].frechet / judgements[0].frechet)
    return Price(ratio, _interval(first, row, encoder))


def _interval(first: TrainerRow, row: TrainerRow, encoder: str) -> tuple[float, float] | None:
    """Over resamples of the cases, of which error and distance see the same."""
    resampled, errors = [], []
    for one in (first, row):
        judgement = one.judgement(encoder)
        if judgement is None or judgement.resampled is None:
            return None
        resampled.append(judgement.resampled)
        errors.append([one.cases[case].get(DECIDING) for case in judgement.resampled.cases])
    same = replace(resampled[1], frechet=resampled[0].frechet) == resampled[0]
    if not same or any(error is None for of_trainer in errors for error in of_trainer):
        return None
    resampling = resampled[0].resampling
    draws = resampling.draws(len(resampled[0].cases))
    before, after = (np.asarray(of_trainer, dtype=np.float64)[draws].mean(1) for of_trainer in errors)
    distances = [np.asarray(one.frechet) for one in resampled]
    prices = map(price_of_distance, (after / before).tolist(), (distances[1] / distances[0]).tolist())
    return resampling.interval(np.array([np.inf if price is None else price for price in prices]))
