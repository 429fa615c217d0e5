"""The field ``transport``: each token goes where the best map between two Gaussians takes it.

Of all maps that turn one Gaussian into another, this one moves its samples least (Gelbrich 1990; Peyre and Cuturi,
"Computational Optimal Transport", remark 2.31)::

    V(x) = m_p + A (x - m_q) - x,   A = S_q^(-1/2) (S_q^(1/2) S_p S_q^(1/2))^(1/2) S_q^(-1/2)

with m, S of the generated (q) and the real tokens (p). The mean of |V|^2 over the generated ones is the squared Frechet
distance, so the force says how far there is to go, and fades on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gdmunet.device import exact_float32, full_precision
from gdmunet.training.drift.moments import Gaussians

RIDGE = 1e-4
"""Added to every variance, as a share of the real tokens' mean one: directions that hardly vary stay bounded."""
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Transport:
    """The maps of T token sets of D channels.

    Attributes
    ----------
    centre
        (T, D) m_q, where the generated tokens are.
    shift
        (T, D) m_p - m_q.
    gain
        (T, D, D) A - 1, symmetric.
    scale
        (T,) s, root mean square deviation of a real token's channel.
    distance
        (T,) squared Frechet distance over the real tokens' total variance: 0 where both sides agree, near 1 where the
        generated ones have no spread.
    """

    centre: torch.Tensor
    shift: torch.Tensor
    gain: torch.Tensor
    scale: torch.Tensor
    distance: torch.Tensor

    def to(self, device: torch.device) -> Transport:
        """The same in float32 on a device, where tokens are."""
        centre, shift, gain, scale, distance = (
            part.to(device, torch.float32) for part in (self.centre, self.shift, self.gain, self.scale, self.distance)
        )
        return Transport(centre, shift, gain, scale, distance)

    def field(self, tokens: torch.Tensor) -> torch.Tensor:
        """V (T, S, D), where each token (T, S, D) is to go, in the tokens' own unit."""
        moved: torch.Tensor = torch.baddbmm(self.shift.unsqueeze(1), tokens - self.centre.unsqueeze(1), self.gain)
        return moved


def transport_between(generated: Gaussians, real: Gaussians, ridge: float = RIDGE) -> Transport:
    """The maps from generated to real tokens, float64; `ridge`: see `RIDGE`."""
    dimensions = real.mean.shape[-1]
    total = (dimensions * _LEAST_VARIANCE) + _trace(real.covariance).clamp(min=0.0)
    least = (ridge / dimensions) * total
    added = least[:, None, None] * torch.eye(dimensions, dtype=total.dtype, device=total.device)
    start, goal = generated.covariance + added, real.covariance + added
    values, vectors = torch.linalg.eigh(start)
    # Less than was added is round-off.
    roots = values.maximum(least[:, None]).sqrt()
    root, inverse = _rebuilt(roots, vectors), _rebuilt(1.0 / roots, vectors)
    squares, axes = torch.linalg.eigh(root @ goal @ root)
    middle = squares.clamp(min=0.0).sqrt()
    matrix = inverse @ _rebuilt(middle, axes) @ inverse
    shift = real.mean - generated.mean
    distance = shift.square().sum(-1) + _trace(start) + _trace(goal) - 2.0 * middle.sum(-1)
    return Transport(
        centre=generated.mean,
        shift=shift,
        gain=matrix - torch.eye(dimensions, dtype=matrix.dtype, device=matrix.device),
        scale=(total / dimensions).sqrt(),
        distance=distance.clamp(min=0.0) / total,
    )


def transport_loss(tokens: torch.Tensor, transport: Transport) -> torch.Tensor:
    """Mean squared distance of T sets' tokens (T, S, D) from where they are to go, in units of `Transport.scale`; (T,).

    Its gradient is -2 V / (S D s^2). Near 0 the distributions have met: the value is a convergence signal.
    """
    now = tokens.detach().float()
    with exact_float32(), full_precision(tokens.device):
        field = transport.field(now)
    # The difference from the goal, without the round-off of a sum with a large token.
    missing = tokens.float() - now - field
    return missing.square().mean((1, 2)) / transport.scale.square()


def _trace(matrices: torch.Tensor) -> torch.Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def _rebuilt(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """V diag(values) V^T."""
    return (vectors * values.unsqueeze(-2)) @ vectors.mT
