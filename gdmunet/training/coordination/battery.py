"""Several encoders side by side: every one has the same say in the direction, however steep its features are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gdmunet.training.distributed import sum_over_ranks

_LEAST_LENGTH = 1e-18


def shared_by_battery(volume: torch.Tensor, encoders: int) -> torch.Tensor:
    """The volume (B, 1, ...) once for each encoder, (B, K, ...); its gradient is the mean of unit gradients.

    With g_k the gradient that arrives in channel k, that of the volume is mean_k(g_k / |g_k|) times mean_k |g_k|, so
    that scaling all of them scales the result. The directions of two random encoders agree little (cosine r); the mean
    of K agrees with that of K others by r / (r + (1 - r) / K). Lengths are those of the whole batch, over all
    processes. One backward pass serves all encoders.
    """
    apply: Callable[..., torch.Tensor] = _Shared.apply
    return apply(volume, encoders)


class _Shared(torch.autograd.Function):
    """Copies forwards; the mean direction backwards."""

    @staticmethod
    def forward(context: Any, volume: torch.Tensor, encoders: int) -> torch.Tensor:
        del context
        return volume.expand(-1, encoders, *volume.shape[2:])

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        del context
        (gradient,) = gradients
        wide = gradient.float()
        others = [axis for axis in range(wide.ndim) if axis != 1]
        lengths = sum_over_ranks(wide.square().sum(others, keepdim=True)).sqrt()
        units = wide / lengths.clamp_min(_LEAST_LENGTH)
        return (units.mean(1, keepdim=True) * lengths.mean()).to(gradient.dtype), None
