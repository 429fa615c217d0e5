"""Agreement of a volume with measured projections, and steps that improve it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gdmunet.tomography.projector import Projector


@dataclass(frozen=True)
class Residual:
    """Mean \\|A y - p\\| over all rays (line integrals, no unit), and its share of the mean \\|p\\|."""

    absolute: float
    relative: float


def projection_residual(attenuation: torch.Tensor, measured: torch.Tensor, projector: Projector) -> Residual:
    """Compare the projections of (slices, y, x) in 1/mm with the measured ones (slices, views, bins)."""
    difference = (projector.project(attenuation) - measured).abs().mean()
    return Residual(float(difference), float(difference / measured.abs().mean()))


def consistency_steps(
    attenuation: torch.Tensor, measured: torch.Tensor, projector: Projector, steps: int
) -> torch.Tensor:
    """Projected gradient descent on the weighted squared residual, from `attenuation` (slices, y, x) in 1/mm on.

    One step is ``max(0, y + C A' R (p - A y))`` with R and C one over the row and column sums of A: the simultaneous
    iterative reconstruction technique, whose weights make the step size 1 converge for every geometry (Gregor and
    Benson, IEEE Transactions on Medical Imaging 27, 2008). Nothing attenuates less than vacuum; without that bound few
    views are explained by negative air around the body, and the body pays for it. A few steps bring back what the
    network invented or lost along measured lines; many fit the noise.
    """
    with torch.no_grad():
        one = attenuation.new_ones(1, *attenuation.shape[1:])
        rows = _inverse(projector.project(one))
        columns = _inverse(projector.adjoint(torch.ones_like(rows)))
        for _ in range(steps):
            step = columns * projector.adjoint(rows * (measured - projector.project(attenuation)))
            attenuation = (attenuation + step).clamp(min=0)
    return attenuation


def _inverse(sums: torch.Tensor) -> torch.Tensor:
    """1 / sums, and 0 for rays that miss and pixels that no ray meets."""
    return torch.where(sums > 1e-6 * sums.max(), 1 / sums, torch.zeros_like(sums))
