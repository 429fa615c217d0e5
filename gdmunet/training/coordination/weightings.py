"""From the inner products of several gradients to the weights of their combination.

Every function takes the Gramian (m, m), G_ij = g_i . g_j with the fidelity's gradient first, as float64 on the CPU, and
returns the weights (m,) of ``d = sum_i w_i g_i``. None of them needs the gradients themselves, so that ranks exchange
m x m numbers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import minimize, nnls

from gdmunet.errors import GdmError

# Squared length, against unit gradients, below which a convex combination counts as zero: the Gramian was added up
# in float32. No direction then improves all objectives.
STATIONARY = 1e-6
_FLOAT32 = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class WeightingOptions:
    """Numbers that single weightings need.

    Attributes
    ----------
    weight
        ``sum``: of every gradient but the first.
    beta
        ``adaptive``: length of the others against the first.
    radius
        ``cagrad``: distance from the mean gradient, as a share of its length; 0 to below 1.
    """

    weight: float = 1.0
    beta: float = 0.1
    radius: float = 0.5

    def __post_init__(self) -> None:
        if not (0 <= self.radius < 1 and self.beta >= 0):
            raise GdmError(
                "the weighting cannot take these numbers",
                found=f"radius {self.radius}, beta {self.beta}",
                expected="a radius (cagrad_radius) from 0 to below 1, a beta (adaptive_weight) of 0 or more",
            )


Weighting = Callable[[torch.Tensor, WeightingOptions], torch.Tensor]
_DEFAULT = WeightingOptions()


def plain_sum(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
    """g1 + w g2 + w g3 ...: no coordination."""
    weights = torch.full_like(gramian[0], options.weight)
    weights[0] = 1
    return weights


def adaptive(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
    """g1 + beta clamp(|g1| / (|gi| + 1e-4), 0, 1e4) gi: the rule of VQGAN (arXiv 2012.09841, equation 7)."""
    norms = gramian.diagonal().sqrt()
    weights = options.beta * (norms[0] / (norms + 1e-4)).clamp(0, 1e4)
    weights[0] = 1
    return weights


def mgda(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
    """The shortest convex combination (arXiv 1810.04650), exactly.

    With J^T J = G, the non-negative least squares solution of [J; 1] x = [0; 1] is a multiple of it: for x = s w the
    error (s |J w|)^2 + (s - 1)^2 is least at the w of least |J w|.
    """
    root = _root(gramian / gramian.diagonal().max())
    ones = torch.ones_like(gramian[:1])
    solution, _ = nnls(torch.cat([root, ones]).numpy(), torch.cat([root.new_zeros(len(root)), ones[0, :1]]).numpy())
    weights = torch.from_numpy(solution)
    return weights / weights.sum()


def pcgrad(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
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


def imtl_g(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
    """The affine combination with equal projections on all gradients (IMTL-G, ICLR 2021)."""
    weights = _equal_projections(gramian) / gramian.diagonal().sqrt()
    total = weights.sum()
    return torch.zeros_like(weights) if total.abs() <= 1e-9 * weights.abs().sum() else weights / total


def config(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
    """The direction of equal cosines, as long as the projections on it together (arXiv 2408.11104, equation 2)."""
    norms = gramian.diagonal().sqrt()
    cosines = cosines_of(gramian)
    solution = _equal_projections(gramian)
    projections = cosines @ solution
    squared = solution @ projections
    if squared <= STATIONARY * solution.square().sum():
        return torch.zeros_like(solution)
    return (norms @ projections) / squared * solution / norms


def nash(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
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


def cagrad(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
    """Within a ball around the mean, the direction of the best worst improvement (arXiv 2110.14048, equation 4)."""
    count = len(gramian)
    scaled = (gramian / gramian.diagonal().mean()).numpy()
    mean = scaled.mean(0)
    radius = options.radius * max(mean.mean(), 0.0) ** 0.5

    def value_and_slope(w):  # type: ignore[no-untyped-def]
        length = max(w @ scaled @ w, 1e-18) ** 0.5
        return w @ mean + radius * length, mean + radius * (scaled @ w) / length

    found = minimize(
        value_and_slope,
        scaled.diagonal() * 0 + 1 / count,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: w * 0 + 1},
        options={"ftol": 1e-14, "maxiter": 200},
    )
    length = max(found.x @ scaled @ found.x, 0.0) ** 0.5
    if length <= STATIONARY**0.5 * scaled.diagonal().min() ** 0.5:
        return torch.zeros_like(gramian[0])
    return torch.from_numpy(1 / count + radius / length * found.x)


def aligned(gramian: torch.Tensor, options: WeightingOptions = _DEFAULT) -> torch.Tensor:
    """The mean of the gradients after all their principal components have the least one's length (Aligned-MTL)."""
    values, vectors = torch.linalg.eigh(gramian)
    kept = values > values.max() * len(values) * _FLOAT32
    values, vectors = values[kept], vectors[:, kept]
    return values.min().sqrt() * (vectors / values.sqrt()) @ vectors.mean(0)


WEIGHTINGS: dict[str, Weighting] = {
    "sum": plain_sum,
    "mgda": mgda,
    "pcgrad": pcgrad,
    "imtl_g": imtl_g,
    "config": config,
    "nash": nash,
    "cagrad": cagrad,
    "aligned": aligned,
    "adaptive": adaptive,
}


def cosines_of(gramian: torch.Tensor) -> torch.Tensor:
    """Cosines (..., m, m) between the gradients; 0 with a gradient that is zero."""
    norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    products = norms.unsqueeze(-1) * norms.unsqueeze(-2)
    return torch.where(products > 0, gramian / products.where(products > 0, 1.0), 0.0).clamp(-1, 1)


def _equal_projections(gramian: torch.Tensor) -> torch.Tensor:
    """Weights of the unit gradients whose combination has projection 1 on each of them."""
    cosines = cosines_of(gramian)
    return torch.linalg.pinv(cosines, rtol=len(cosines) * _FLOAT32, hermitian=True) @ torch.ones_like(cosines[0])


def _root(gramian: torch.Tensor) -> torch.Tensor:
    """J with J^T J = G."""
    values, vectors = torch.linalg.eigh(gramian)
    return values.clamp_min(0).sqrt().unsqueeze(1) * vectors.T
