"""Paired statistics: the tokens of a patch against those of its own target, in units of the real tokens' spread.

Tokens are means and standard deviations of small windows of features. The best guess of a local standard deviation is
its mean over all plausible targets, not that of a blurred image: unlike an error of voxels, this one does not reward
blur (it does not reward grain at the right place either, which nobody can guess).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gdmunet.training.distributed import sum_over_ranks, world_size
from gdmunet.training.drift.moments import Tokens

_LEAST_SPREAD = 1e-6


def paired_losses(generated: Tokens, real: Tokens, totals: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Mean |x_i - y_i| over tokens and channels, over the root mean square deviation of a real channel; () by set.

    Parameters
    ----------
    generated, real
        Tokens (S, C) by set, at the same places of the same patches; all processes must name the same sets.
    totals
        Number of each set's tokens over all processes: the mean of the losses over processes is that of one process
        with all tokens.

    Returns
    -------
    dict
        Sets without any token are left out.
    """
    keys = [key for key in generated if totals[key]]
    if not keys:
        return {}
    with torch.no_grad():
        spreads = _spreads({key: real[key].float() for key in keys}, totals)
    return {
        key: (generated[key].float() - real[key]).abs().sum()
        * (world_size() / (totals[key] * real[key].shape[1]))
        / spreads[key]
        for key in keys
    }


def _spreads(real: Tokens, totals: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Root mean square deviation () of a channel from its mean, over all processes, by set.

    One number for all channels: each by its own would enlarge nearly dead ones a hundredfold.
    """
    means = sum_over_ranks(torch.cat([tokens.sum(0) / totals[key] for key, tokens in real.items()]))
    centres = means.split([tokens.shape[1] for tokens in real.values()])
    squares = [
        (tokens - centre).square().sum() / (totals[key] * tokens.shape[1])
        for (key, tokens), centre in zip(real.items(), centres, strict=True)
    ]
    spreads = sum_over_ranks(torch.stack(squares)).sqrt().clamp(min=_LEAST_SPREAD)
    return dict(zip(real, spreads.unbind(0), strict=True))
