"""The best filter: an unsharp mask that brings predictions nearer to the references without any training.

A method that costs more error for a distance than this filter teaches sharpening and no more, so a comparison has the
filtered predictions of every trainer as rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import scipy

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.evaluation.distributions.distances import Moments, body_features, frechet_of_moments
from gdmunet.evaluation.distributions.judge import (
    JudgedFiles,
    JudgeOptions,
    choose_judges,
    read_judged,
    scaled,
    target_units,
)
from gdmunet.imageio import read_mask, read_volume, write_volume
from gdmunet.progress import Progress

# Widths of the blur in voxels, and amounts of what the blur removed that are added.
_SIGMAS = (0.6, 1.0, 1.5)
_AMOUNTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
# Amounts of each width, largest first, whose distance is measured: the distance falls as the amount grows.
_MEASURED = 2
# Largest rise of the mean absolute error.
_MOST_ERROR = 0.01


@dataclass(frozen=True)
class UnsharpMask:
    """The filter v + amount (v - blur of v); `sigma` of the Gaussian blur in voxels."""

    sigma: float
    amount: float

    def apply(self, volume: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """The filtered volume (z, y, x) inside the mask, the volume itself outside."""
        if self.amount == 0:
            return volume
        filtered = volume + self.amount * (volume - scipy.ndimage.gaussian_filter(volume, self.sigma))
        return np.asarray(filtered if mask is None else np.where(mask, filtered, volume), dtype=volume.dtype)


_NONE = UnsharpMask(1.0, 0.0)
_GRID = tuple(UnsharpMask(sigma, amount) for sigma, amount in product(_SIGMAS, _AMOUNTS))


def tuned_filters(
    files: Sequence[JudgedFiles], judge: JudgeOptions, modality: str, *, show_progress: bool = True
) -> dict[str, UnsharpMask]:
    """The filter of each case: of the smallest Frechet distance for a rise of the mean absolute error by 1 % at most.

    The cases are halved, and each half is filtered as is best for the other one. A single case is filtered as is best
    for itself, which favours the filter. The first encoder of `judge` measures.
    """
    units = target_units(files, modality)
    (_, encoder), *_ = choose_judges(replace(judge, encoders=judge.encoders[:1]), units).values()
    names = sorted(one.identifier for one in files)
    halves = [names[0::2], names[1::2] or names]
    with Progress("tuning the filter", 2 * len(files), show_progress) as progress:
        errors = {}
        for one in files:
            errors[one.identifier] = _errors(one)
            progress.step()
        admitted = [_admitted([errors[name] for name in half]) for half in halves]
        moments = {}
        for one in files:
            moments[one.identifier] = _moments(one, {_NONE, *admitted[0], *admitted[1]}, encoder, units)
            progress.step()
    best = [_best([moments[name] for name in half], allowed) for half, allowed in zip(halves, admitted, strict=True)]
    return dict.fromkeys(halves[0], best[1]) | (dict.fromkeys(halves[1], best[0]) if len(names) > 1 else {})


def write_filtered(files: Sequence[JudgedFiles], filters: Mapping[str, UnsharpMask], folder: Path) -> None:
    """Write every prediction, filtered inside its mask, under its own name into `folder`."""
    for one in files:
        volume = read_volume(one.prediction, one.identifier, constant=True)
        mask = None if one.mask is None else read_mask(one.mask, one.identifier).array
        write_volume(folder / one.prediction.name, filters[one.identifier].apply(volume.array, mask), volume.geometry)


def _errors(files: JudgedFiles) -> dict[UnsharpMask, float]:
    """Mean absolute error of a case inside its mask, by filter."""
    real, mask = read_judged(files.reference, files)
    predicted, _ = read_judged(files.prediction, files)
    errors = {_NONE: float(np.abs(predicted - real)[mask].mean(dtype=np.float64))}
    for sigma in _SIGMAS:
        lost = (predicted - scipy.ndimage.gaussian_filter(predicted, sigma))[mask]
        difference = (predicted - real)[mask]
        for amount in _AMOUNTS:
            error = np.abs(difference + amount * lost).mean(dtype=np.float64)
            errors[UnsharpMask(sigma, amount)] = float(error)
    return errors


def _admitted(errors: Sequence[Mapping[UnsharpMask, float]]) -> tuple[UnsharpMask, ...]:
    """For each width the largest amounts whose mean error over the cases is small enough."""
    means = {one: float(np.mean([case[one] for case in errors])) for one in (_NONE, *_GRID)}
    allowed = [one for one in _GRID if means[one] <= (1 + _MOST_ERROR) * means[_NONE]]
    return tuple(one for sigma in _SIGMAS for one in [f for f in allowed if f.sigma == sigma][-_MEASURED:])


def _moments(
    files: JudgedFiles, filters: set[UnsharpMask], encoder: FrozenEncoder, units: VolumeUnits
) -> dict[UnsharpMask | None, dict[str, Moments]]:
    """Moments of a case's features by filter and level; the references' under None."""
    real, mask = read_judged(files.reference, files)
    predicted, _ = read_judged(files.prediction, files)

    def measured(volume: np.ndarray) -> dict[str, Moments]:
        features = body_features(encoder, scaled(volume, units), mask)
        return {name: Moments.of(values, np.zeros(values.shape[1])) for name, values in features.items()}

    return {None: measured(real)} | {one: measured(one.apply(predicted, mask)) for one in filters}


def _best(
    cases: Sequence[Mapping[UnsharpMask | None, Mapping[str, Moments]]], allowed: Sequence[UnsharpMask]
) -> UnsharpMask:
    """The filter of the smallest distance over the cases together; the unfiltered predictions may be the best."""

    def pooled(key: UnsharpMask | None, level: str) -> Moments:
        parts = [case[key][level] for case in cases if level in case[key]]
        return Moments.weighted(parts, np.ones(len(parts)))

    names = dict.fromkeys(name for case in cases for name in case[None])
    real = {name: pooled(None, name) for name in names}
    counted = [name for name, part in real.items() if part.count >= 10 * len(part.total)] or list(real)
    return min((_NONE, *allowed), key=lambda f: np.mean([frechet_of_moments(pooled(f, n), real[n]) for n in counted]))
