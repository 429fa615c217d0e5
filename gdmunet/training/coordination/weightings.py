"""From the inner products of several gradients to the weights of their combination.

Every function takes the Gramian (m, m), G_ij = g_i . g_j with the fidelity's gradient first, as float64 on the CPU
(elementwise ones also on a GPU), and returns the weights (m,) of ``d = sum_i w_i g_i``. None of them needs the
gradients themselves, so that ranks exchange m x m numbers only. `WEIGHTINGS` lists them with their uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy
import torch

from gdmunet.errors import GdmError

# Squared length, against unit gradients, below which a convex combination counts as zero: the Gramian was added up
# in float32. No direction then improves all objectives.
STATIONARY = 1e-6
_FLOAT32 = torch.finfo(torch.float32).eps
Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class WeightingOptions:
    """Numbers that single weightings need; the trainers' settings take their defaults from here.

    Attributes
    ----------
    weight
        ``sum``: weight of every gradient except the first.
    beta
        ``adaptive``: length of the others against the first.
    radius
        ``cagrad``: distance from the mean gradient, as a share of its length; 0 to below 1.
    kappa
        ``calibrated``: length of the others against the first, while they are as long as at first.
    calibration_steps
        ``calibrated``: steps over which the ratios are measured; later they are constant.
    ratios
        ``calibrated``: (m,) |g1| / |gi| of every gradient, as measured; None: those of the present Gramian.
    """

    weight: float = 1.0
    beta: float = 1.0
    radius: float = 0.5
    kappa: float = 0.5
    calibration_steps: int = 20
    ratios: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.radius < 1 and self.beta >= 0 and self.kappa >= 0):
            raise GdmError(
                "the weighting cannot take these numbers",
                found=f"radius {self.radius}, beta {self.beta}, kappa {self.kappa}",
                expected="a radius (cagrad_radius) from 0 to below 1, a beta (adaptive_weight) and a kappa "
                "(calibrated_weight) of 0 or more",
                remedy="correct these numbers",
            )


def plain_sum(gramian: torch.Tensor, weight: float) -> torch.Tensor:
    """g1 + w g2 + w g3 ...: no coordination."""
    weights = torch.full_like(gramian[..., 0, :], weight)
    weights[..., 0].fill_(1)
    return weights


def adaptive(gramian: torch.Tensor, beta: float) -> torch.Tensor:
    """g1 + beta clamp(|g1| / (|gi| + 1e-4), 0, 1e4) gi: the rule of VQGAN (arXiv 2012.09841, equation 7)."""
    norms = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
    weights = beta * (norms[..., :1] / (norms + 1e-4)).clamp(0, 1e4)
    weights[..., 0].fill_(1)
    return weights


def calibrated(gramian: torch.Tensor, kappa: float, ratios: torch.Tensor | None) -> torch.Tensor:
    """g1 + kappa w gi with a constant w, the ratio of the lengths that was measured first."""
    norms = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
    measured = norms[..., :1] / norms if ratios is None else ratios.expand_as(norms)
    weights = kappa * measured.where(measured.isfinite(), 0.0)
    weights[..., 0].fill_(1)
    return weights


def mgda(gramian: torch.Tensor) -> torch.Tensor:
    """The shortest convex combination (arXiv 1810.04650), exactly.

    With J^T J = G, the non-negative least squares solution of [J; 1] x = [0; 1] is a multiple of it: for x = s w the
    error (s |J w|)^2 + (s - 1)^2 is least at the w of least |J w|.
    """
    root = _root(gramian / gramian.diagonal().max())
    ones = torch.ones_like(gramian[:1])
    wanted = torch.cat([root.new_zeros(len(root)), ones[0, :1]])
    solution, _ = scipy.optimize.nnls(torch.cat([root, ones]).numpy(), wanted.numpy())
    weights = torch.from_numpy(solution)
    return weights / weights.sum()


def pcgrad(gramian: torch.Tensor) -> torch.Tensor:
    """Each gradient less its part against every other, added up (arXiv 2001.06782), the others in their order.

    The paper takes the others in random order; that matters from three objectives on, and would differ between ranks.
    """
    rows = torch.eye(len(gramian), dtype=gramian.dtype)
    for i, row in enumerate(rows):
        for j in range(len(gramian)):
            product = gramian[j] @ row
            if j != i and product < 0:
                row[j] -= product / gramian[j, j]
    return rows.sum(0)


def imtl_g(gramian: torch.Tensor) -> torch.Tensor:
    """The affine combination with equal projections on all gradients (IMTL-G, ICLR 2021)."""
    weights = _equal_projections(gramian) / gramian.diagonal().sqrt()
    total = weights.sum()
    return torch.zeros_like(weights) if total.abs() <= 1e-9 * weights.abs().sum() else weights / total


def config(gramian: torch.Tensor) -> torch.Tensor:
    """The direction of equal cosines, as long as the projections on it together (arXiv 2408.11104, equation 2)."""
    norms = gramian.diagonal().sqrt()
    cosines = cosines_of(gramian)
    solution = _equal_projections(gramian)
    projections = cosines @ solution
    squared = solution @ projections
    if squared <= STATIONARY * solution.square().sum():
        return torch.zeros_like(solution)
    return (norms @ projections) / squared * solution / norms


def nash(gramian: torch.Tensor) -> torch.Tensor:
    """The Nash bargaining solution, G w = 1 / w (arXiv 2202.01017); its length does not depend on the gradients'.

    It minimises w.G w / 2 - sum log w, which is self-concordant: damped Newton steps converge and keep w positive.
    """
    norms, cosines = gramian.diagonal().sqrt(), cosines_of(gramian)
    shortest = mgda(cosines)
    if shortest @ cosines @ shortest <= STATIONARY:
        return torch.zeros_like(norms)
    x = torch.ones_like(norms)
    for _ in range(500):
        slope = cosines @ x - 1 / x
        step = torch.linalg.solve(cosines + torch.diag(x**-2), slope)
        decrement = (slope @ step).clamp_min(0).sqrt()
        x = x - step / (1 + decrement)
        if decrement < 1e-10:
            break
    return x / norms


def cagrad(gramian: torch.Tensor, radius: float) -> torch.Tensor:
    """Within a ball around the mean, the direction of the best worst improvement (arXiv 2110.14048, equation 4)."""
    count = len(gramian)
    scaled = (gramian / gramian.diagonal().mean()).numpy()
    mean = scaled.mean(0)
    reach = radius * max(mean.mean(), 0.0) ** 0.5

    def value_and_slope(w: Vector) -> tuple[float, Vector]:
        length = max(w @ scaled @ w, 1e-18) ** 0.5
        return w @ mean + reach * length, mean + reach * (scaled @ w) / length

    solution = scipy.optimize.minimize(
        value_and_slope,
        scaled.diagonal() * 0 + 1 / count,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: w * 0 + 1},
        options={"ftol": 1e-14, "maxiter": 200},
    ).x
    length = max(solution @ scaled @ solution, 0.0) ** 0.5
    if length <= STATIONARY**0.5 * scaled.diagonal().min() ** 0.5:
        return torch.zeros_like(gramian[0])
    return torch.from_numpy(1 / count + reach / length * solution)


def aligned(gramian: torch.Tensor) -> torch.Tensor:
    """The mean of the gradients after all their principal components have the least one's length (Aligned-MTL)."""
    values, vectors = eigenvectors(gramian)
    kept = values > values.max() * len(values) * _FLOAT32
    values, vectors = values[kept], vectors[:, kept]
    return values.min().sqrt() * (vectors / values.sqrt()) @ vectors.mean(0)


def cosines_of(gramian: torch.Tensor) -> torch.Tensor:
    """Cosines (..., m, m) between the gradients; 0 with a gradient that is zero."""
    norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    products = norms.unsqueeze(-1) * norms.unsqueeze(-2)
    cosines: torch.Tensor = torch.where(products > 0, gramian / products.where(products > 0, 1.0), 0.0)
    return cosines.clamp(-1, 1)


def _equal_projections(gramian: torch.Tensor) -> torch.Tensor:
    """Weights of the unit gradients whose combination has projection 1 on each of them."""
    cosines = cosines_of(gramian)
    inverse: torch.Tensor = torch.linalg.pinv(cosines, rtol=len(cosines) * _FLOAT32, hermitian=True)
    return inverse @ torch.ones_like(cosines[0])


def _root(gramian: torch.Tensor) -> torch.Tensor:
    """J with J^T J = G."""
    values, vectors = eigenvectors(gramian)
    return values.clamp_min(0).sqrt().unsqueeze(1) * vectors.T


def eigenvectors(gramian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (m,) from small to large, and unit eigenvectors in the columns of (m, m)."""
    values, vectors = torch.linalg.eigh(gramian)
    return values, vectors


@dataclass(frozen=True)
class Weighting:
    """A row of the table of weightings in documentation/explanation/coordination.md.

    Attributes
    ----------
    weigh
        Function from the Gramian (m, m) to the weights (m,).
    direction
        Result for two gradients, in symbols.
    purpose
        Use of the weighting, and the named trainer that uses it.
    elementwise
        Whether it also takes Gramians (B, m, m), on any device, and asks for none of their values: the host then does
        not wait for the device. It knows the first gradient by its place, also one that is zero.
    """

    weigh: Callable[[torch.Tensor, WeightingOptions], torch.Tensor]
    direction: str
    purpose: str
    elementwise: bool = False


def _without_options(weigh: Callable[[torch.Tensor], torch.Tensor], direction: str, purpose: str) -> Weighting:
    return Weighting(lambda gramian, _: weigh(gramian), direction, purpose)


WeightingName = Literal[
    "sum", "adaptive", "calibrated", "mgda", "pcgrad", "imtl_g", "config", "nash", "cagrad", "aligned"
]

WEIGHTINGS: dict[WeightingName, Weighting] = {
    "sum": Weighting(
        lambda gramian, options: plain_sum(gramian, options.weight),
        "g1 + w g2",
        "the baseline, in which the lengths of the gradients decide: `DriftTrainer`, `GDMTrainerNoCoordination`",
        elementwise=True,
    ),
    "adaptive": Weighting(
        lambda gramian, options: adaptive(gramian, options.beta),
        r"g1 + beta clamp(\|g1\|/(\|g2\| + 1e-4), 0, 1e4) g2",
        "fidelity leads, the other has a fixed share of its length (beta: `adaptive_weight`): `GDMTrainer`",
        elementwise=True,
    ),
    "calibrated": Weighting(
        lambda gramian, options: calibrated(gramian, options.kappa, options.ratios),
        r"g1 + kappa w g2, w the mean of \|g1\|/\|g2\| over the first steps, then constant",
        "a force that fades has less and less say (kappa: `calibrated_weight`): `GDMTrainerTransport`",
        elementwise=True,
    ),
    "mgda": _without_options(
        mgda,
        "shortest point between g1 and g2, as long as g1",
        "never against an objective; with unit gradients both count half: `GDMTrainerMGDA`",
    ),
    "pcgrad": _without_options(
        pcgrad,
        "each gradient less its part against the other",
        "only conflicts are removed; lengths still decide: `GDMTrainerPCGrad`",
    ),
    "imtl_g": _without_options(
        imtl_g,
        r"(\|g2\| g1 + \|g1\| g2) / (\|g1\| + \|g2\|)",
        "equal progress along every gradient; comparison, no named trainer",
    ),
    "config": _without_options(
        config,
        "(g1.u + g2.u) u with u towards u1 + u2",
        "equal cosines; longer when the objectives agree; comparison, no named trainer",
    ),
    "nash": _without_options(
        nash,
        "(u1 + u2) / sqrt(1 + cos)",
        "equal relative gains; its length is fixed, clip or normalise; comparison, no named trainer",
    ),
    "cagrad": Weighting(
        lambda gramian, options: cagrad(gramian, options.radius),
        r"g0 + (r \|g0\| / \|gw\|) gw around the mean g0",
        "close to the mean, yet the worst objective gains most (r: `cagrad_radius`); comparison, no named trainer",
    ),
    "aligned": _without_options(
        aligned,
        "mean after all principal components have the least one's length",
        "many objectives that nearly coincide, such as `objectives=levels`; no named trainer",
    ),
}
