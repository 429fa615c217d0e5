"""Distances of generated from real volumes as distributions: Frechet distance and MMD of encoder features.

Paired errors reward blur; these scores see it. They depend on the encoder, whose name belongs beside each figure,
and an encoder that a generator was trained with must not judge it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch.nn import functional

from gdmunet.composition import compose_array
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.judgement import DistributionDistance

# Places for each volume and level: enough for a covariance of some hundred channels, little enough for a matrix of
# pairs.
_PLACES = 4096
_MMD_PLACES = 2048

# Features of one volume by level, and those of a prediction and its reference.
Features = dict[str, np.ndarray]
FeaturePair = tuple[Features, Features]


@torch.no_grad()
def body_features(
    encoder: FrozenEncoder, volume: np.ndarray, mask: np.ndarray, *, seed: int = 0, window: int = 96
) -> Features:
    """Features at places inside the body, by level.

    Parameters
    ----------
    volume
        (z, y, x) in the network units that `encoder.units` describes.
    mask
        Body (z, y, x); outside lies background, for generated and real volumes alike.
    window
        Edge in voxels of the blocks that the encoder sees; they do not overlap.

    Returns
    -------
    dict
        (places, C) float32, at most 4096 places for each level, drawn with `seed`: the same places for volumes of one
        mask.
    """
    composed = compose_array(volume, mask, encoder.units.network_background).astype(np.float32)
    blocks = [
        block
        for corner in np.ndindex(*[-(-n // window) for n in mask.shape])
        if mask[block := tuple(slice(c * window, (c + 1) * window) for c in corner)].any()
    ]
    bodies = {level.name: [_body_places(mask[block], level.stride) for block in blocks] for level in encoder.levels}
    rng = np.random.default_rng(seed)
    # Drawn before the features are there: all of a fine level of a large volume would not fit into memory.
    drawn = {name: _draw(of_level, rng) for name, of_level in bodies.items()}
    features: Features = {}
    for number, block in enumerate(blocks):
        for level in encoder(torch.from_numpy(composed[block])[None, None]):
            places = drawn[level.level]
            values = level.values[0].float()[:, torch.from_numpy(bodies[level.level][number])].T.numpy()
            if level.level not in features:
                features[level.level] = np.empty((len(places.block), values.shape[1]), np.float32)
            rows = np.flatnonzero(places.block == number)
            features[level.level][rows] = values[places.position[rows]]
    return {name: values for name, values in features.items() if len(values) > 1}


class _DrawnPlaces(NamedTuple):
    """Block of each drawn place, and its position among the places of that block's body; (places,) each."""

    block: np.ndarray
    position: np.ndarray


def _body_places(mask: np.ndarray, stride: tuple[int, ...]) -> np.ndarray:
    """Places of a level of which the body fills half or more."""
    inside = torch.from_numpy(mask.astype(np.float32))[None, None]
    pads = [p for n, s in zip(reversed(mask.shape), reversed(stride), strict=True) for p in (0, (-n) % s)]
    return np.asarray((functional.avg_pool3d(functional.pad(inside, pads), stride)[0, 0] >= 0.5).numpy())


def _draw(bodies: Sequence[np.ndarray], rng: np.random.Generator) -> _DrawnPlaces:
    """At most 4096 places of all blocks together."""
    ends = np.cumsum([np.count_nonzero(body) for body in bodies])
    order = rng.permutation(int(ends[-1]) if len(ends) else 0)[:_PLACES]
    block = np.searchsorted(ends, order, side="right")
    return _DrawnPlaces(block, order - np.concatenate([[0], ends])[block])


def distribution_distance(generated: np.ndarray, real: np.ndarray, *, seed: int = 0) -> DistributionDistance:
    """Distances of two sets of features (n, D) and (m, D).

    Raises
    ------
    GdmError
        A set with fewer than two features.
    """
    if min(len(generated), len(real)) < 2:
        raise GdmError(
            "too few features for a distance of distributions",
            found=f"{len(generated)} generated and {len(real)} real places inside the body",
            expected="two or more of both",
            remedy="give more or larger cases",
        )
    return DistributionDistance(
        frechet_distance(generated, real),
        squared_mmd(generated, real, seed),
        min(len(generated), len(real)),
        real.shape[1],
    )


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of products of a set of features: moments of several sets are their sums.

    Attributes
    ----------
    total
        (D,) sum of the features less a shift that all sets of a comparison share.
    products
        (D, D) sum of their outer products.
    """

    count: float
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, shift: np.ndarray) -> Moments:
        """Moments of features (n, D); `shift` (D,) is near their mean, so that the covariance keeps its digits."""
        values = features.astype(np.float64) - shift
        return cls(float(len(values)), values.sum(0), values.T @ values)

    @classmethod
    def weighted(cls, parts: Sequence[Moments], weights: np.ndarray) -> Moments:
        """Moments of several sets, each counted `weights` times."""
        pairs = list(zip(weights, parts, strict=True))
        return cls(
            float(sum(w * part.count for w, part in pairs)),
            np.sum([w * part.total for w, part in pairs], axis=0),
            np.sum([w * part.products for w, part in pairs], axis=0),
        )

    @property
    def mean(self) -> np.ndarray:
        """(D,)"""
        return np.asarray(self.total / self.count)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), unbiased."""
        return np.asarray((self.products - np.outer(self.total, self.mean)) / max(self.count - 1, 1.0))


def frechet_distance(generated: np.ndarray, real: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to both sets, over the trace of the real covariance.

    Source: Heusel et al., arXiv 1706.08500, with the trace of (C1 C2)^(1/2) from the symmetric form
    (C1^(1/2) C2 C1^(1/2))^(1/2), whose eigenvalues are real.
    """
    shift = real.astype(np.float64).mean(0)
    return frechet_of_moments(Moments.of(generated, shift), Moments.of(real, shift))


def frechet_of_moments(generated: Moments, real: Moments) -> float:
    """`frechet_distance` from the moments of both sets."""
    first, second = generated.covariance, real.covariance
    values, vectors = scipy.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(scipy.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    shift = np.square(generated.mean - real.mean).sum()
    return float((shift + np.trace(first) + np.trace(second) - 2 * cross) / max(np.trace(second), 1e-12))


def frechet_over_draws(pairs: Sequence[FeaturePair], levels: Sequence[str], draws: np.ndarray) -> np.ndarray:
    """Frechet distance, mean over `levels`, of every resample of the cases.

    Parameters
    ----------
    pairs
        (generated, real) features of each case, by level.
    draws
        (resamples, cases) indices of cases, as `BootstrapSpec.draws` gives them. Two sets of predictions of the same
        cases that share the draws can be subtracted from each other.

    Returns
    -------
    (resamples,) float64
    """
    counts = np.stack([np.bincount(draw, minlength=len(pairs)) for draw in draws])
    values = np.zeros((len(levels), len(draws)))
    for row, name in enumerate(levels):
        known = [place for place, (_, real) in enumerate(pairs) if name in real]
        shift = np.concatenate([pairs[place][1][name] for place in known]).astype(np.float64).mean(0)
        moments = [[Moments.of(pairs[place][side][name], shift) for place in known] for side in (0, 1)]
        for column, count in enumerate(counts[:, known]):
            # A resample without a case that has this level counts every case once.
            weights = count if count.any() else np.ones(len(known))
            values[row, column] = frechet_of_moments(*(Moments.weighted(side, weights) for side in moments))
    return np.asarray(values.mean(0))


def squared_mmd(generated: np.ndarray, real: np.ndarray, seed: int = 0) -> float:
    """Unbiased squared MMD with the mean of Gaussian kernels at 1/2, 1 and 2 times the median real distance.

    Source: Gretton et al., JMLR 13 (2012), equations 3 and, for sets of one size, 4: a feature does not meet its
    partner, which lies at the same place of the same patient and is not an independent sample. At most 2048 places of
    each set, drawn with `seed`.
    """
    paired = len(generated) == len(real)
    # Sets of one size are drawn alike, so that partners stay partners.
    draws = [np.random.default_rng(seed + (0 if paired else n)).permutation(len(x))[:_MMD_PLACES]
             for n, x in enumerate((generated, real))]  # fmt: skip
    a, b = (torch.from_numpy(x[draw]).double() for x, draw in zip((generated, real), draws, strict=True))
    between_real = torch.cdist(b, b)
    median = between_real[~torch.eye(len(b), dtype=torch.bool)].median().clamp(min=1e-12)

    def kernel(distance: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.exp(-0.5 * (distance / (median * w)).square()) for w in (0.5, 1.0, 2.0)]).mean(0)

    def off_diagonal(matrix: torch.Tensor) -> torch.Tensor:
        return (matrix.sum() - matrix.diagonal().sum()) / (len(matrix) * (len(matrix) - 1))

    cross = kernel(torch.cdist(a, b))
    within = off_diagonal(kernel(torch.cdist(a, a))) + off_diagonal(kernel(between_real))
    return float(within - 2 * (off_diagonal(cross) if paired else cross.mean()))


def pooled_distances(pairs: Sequence[FeaturePair]) -> dict[str, DistributionDistance]:
    """Distances by level over all cases together: (generated, real) features of each case."""
    generated: dict[str, list[np.ndarray]] = {}
    real: dict[str, list[np.ndarray]] = {}
    for of_prediction, of_reference in pairs:
        for name in of_prediction:
            generated.setdefault(name, []).append(of_prediction[name])
            real.setdefault(name, []).append(of_reference[name])
    return {
        name: distribution_distance(np.concatenate(blocks), np.concatenate(real[name]))
        for name, blocks in generated.items()
    }


def counted_levels(levels: Mapping[str, DistributionDistance]) -> tuple[str, ...]:
    """The levels with enough places; all if no level has enough."""
    return tuple(name for name, one in levels.items() if one.sampled) or tuple(levels)


def mean_distances(levels: Mapping[str, DistributionDistance]) -> tuple[float, float]:
    """Frechet distance and MMD, means over `counted_levels`."""
    used = [levels[name] for name in counted_levels(levels)]
    return float(np.mean([one.frechet for one in used])), float(np.mean([one.mmd for one in used]))
