"""What a gain in distance costs in error: the price ratio."""

from __future__ import annotations

from gdmunet.evaluation.comparison.paired import Comparison, TrainerRow
from gdmunet.metrics import DECIDING


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


def price_ratio(comparison: Comparison, row: TrainerRow, encoder: str) -> float | None:
    """`price_of_distance` of a trainer against the first; None for the first itself and where a part is missing."""
    first = comparison.rows[0]
    judgements = [one.judgement(encoder) for one in (first, row)]
    statistics = [comparison.statistics.get(one.trainer) for one in (first, row)]
    if row is first or judgements[0] is None or judgements[1] is None or statistics[0] is None or statistics[1] is None:
        return None
    before, after = (one.mean.get(DECIDING) for one in statistics if one is not None)
    if not before or after is None or judgements[0].frechet <= 0:
        return None
    return price_of_distance(after / before, judgements[1].frechet / judgements[0].frechet)
