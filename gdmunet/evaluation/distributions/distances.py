"""Distances of generated from real volumes as distributions: Frechet distance and MMD of encoder features.

Paired errors reward blur; these scores see it. They depend on the encoder, whose name belongs beside each figure,
and an encoder that a generator was trained with must not judge it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


@torch.no_grad()
def body_features(
    encoder: FrozenEncoder, volume: np.ndarray, mask: np.ndarray, *, seed: int = 0, window: int = 96
) -> dict[str, np.ndarray]:
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
    values_of_levels: dict[str, list[np.ndarray]] = {}
    for corner in np.ndindex(*[-(-n // window) for n in mask.shape]):
        block = tuple(slice(c * window, (c + 1) * window) for c in corner)
        if not mask[block].any():
            continue
        inside = torch.from_numpy(mask[block].astype(np.float32))[None, None]
        for level in encoder(torch.from_numpy(composed[block])[None, None]):
            pads = [p for n, s in zip(reversed(inside.shape[2:]), reversed(level.stride), strict=True)
                    for p in (0, (-n) % s)]  # fmt: skip
            body = functional.avg_pool3d(functional.pad(inside, pads), level.stride)[0, 0] >= 0.5
            values_of_levels.setdefault(level.level, []).append(level.values[0].float()[:, body].T.numpy())
    rng = np.random.default_rng(seed)
    features = {name: np.concatenate(blocks) for name, blocks in values_of_levels.items()}
    return {
        name: values[rng.permutation(len(values))[:_PLACES]] for name, values in features.items() if len(values) > 1
    }


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
        )
    return DistributionDistance(
        frechet_distance(generated, real),
        squared_mmd(generated, real, seed),
        min(len(generated), len(real)),
        real.shape[1],
    )


def frechet_distance(generated: np.ndarray, real: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to both sets, over the trace of the real covariance.

    Source: Heusel et al., arXiv 1706.08500, with the trace of (C1 C2)^(1/2) from the symmetric form
    (C1^(1/2) C2 C1^(1/2))^(1/2), whose eigenvalues are real.
    """
    a, b = generated.astype(np.float64), real.astype(np.float64)
    first, second = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    values, vectors = scipy.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(scipy.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    return float((shift + np.trace(first) + np.trace(second) - 2 * cross) / max(np.trace(second), 1e-12))


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


def pooled_distances(
    pairs: Iterable[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]],
) -> dict[str, DistributionDistance]:
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


def mean_distances(levels: Mapping[str, DistributionDistance]) -> tuple[float, float]:
    """Frechet distance and MMD, means over the levels with enough places; over all where no level has enough."""
    used = [one for one in levels.values() if one.sampled] or list(levels.values())
    return float(np.mean([one.frechet for one in used])), float(np.mean([one.mmd for one in used]))
