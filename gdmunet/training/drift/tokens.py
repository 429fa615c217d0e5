"""Tokens: what the drift compares, drawn from the feature maps of a frozen encoder inside the body.

A plan says once where the tokens lie. Generated and real patches are read at the same places, so that a token of the
one has its twin in the other. Three families, as in the drifting paper (arXiv 2602.04770) made aware of the body:
``spatial`` (one vector per place), ``local`` (mean and standard deviation of a small window) and ``global`` (mean and
standard deviation of a patch's body). Channels are never whitened, which would amplify nearly dead ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gdmunet.encoders.base import FeatureMap
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.training.drift.token_plan import Picks, TokenPlan, check_families, level_families, windows_in

VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class TokenSet:
    """Tokens that belong together.

    Attributes
    ----------
    key
        ``LEVEL/spatial``, ``LEVEL/local2_mean``, ``LEVEL/local2_std``, ..., ``LEVEL/global_mean``,
        ``LEVEL/global_std``.
    channels
        Length of a token.
    per_patch
        Largest number of tokens of one patch.
    dimensions
        2 or 3.
    """

    key: str
    channels: int
    per_patch: int
    dimensions: int = 3


def level_of(key: str) -> str:
    """The level of a set's tokens, from the set's key."""
    return key.rpartition("/")[0]


def is_local(key: str) -> bool:
    """Whether a set's tokens are means or deviations of windows, from the set's key."""
    return key.rpartition("/")[2].startswith("local")


def values_read(one: TokenSet) -> int:
    """Features that are read for one token of a set, which a set of means shares with that of deviations; whole
    patches are not counted, of which there are few."""
    family = one.key.rpartition("/")[2]
    if not is_local(one.key):
        return one.channels if family == "spatial" else 0
    window, part = int(family.removeprefix("local").partition("_")[0]), family.rpartition("_")[2]
    return one.channels * window**one.dimensions if part == "mean" else 0


def token_sets(
    levels: Sequence[EncoderLevel],
    patch_size: Sequence[int],
    families: Sequence[str],
    tokens_per_patch: int,
) -> tuple[TokenSet, ...]:
    """All sets that patches of that size can have, before anything is computed."""
    check_families(families)
    sets, axes = [], len(patch_size)
    for level in levels:
        shape, wanted = _map_shape(patch_size, level.stride), level_families(level, families)
        if "spatial" in wanted:
            count = min(tokens_per_patch, math.prod(shape))
            sets.append(TokenSet(f"{level.name}/spatial", level.channels, count, axes))
        for window in windows_in(level, shape) if "local" in wanted else ():
            count = min(tokens_per_patch, math.prod(n // window for n in shape))
            sets += [
                TokenSet(f"{level.name}/local{window}_{part}", level.channels, count, axes) for part in ("mean", "std")
            ]
        if "global" in wanted:
            sets += [TokenSet(f"{level.name}/global_{part}", level.channels, 1, axes) for part in ("mean", "std")]
    return tuple(sets)


def extract_tokens(features: Sequence[FeatureMap], plan: TokenPlan) -> dict[str, torch.Tensor]:
    """Read the tokens of a plan; differentiable.

    Parameters
    ----------
    features
        Maps of the encoder, (B, C, ...); levels that are not in the plan are left out.

    Returns
    -------
    dict
        Keys as in `TokenSet`; (S, C) float32, patch by patch. Means and standard deviations of a window take all its
        cells, those of a patch its body cells; std = sqrt(max(var, 0) + 1e-6).

    Raises
    ------
    GdmError
        A map has another shape than the level's stride promises, or a planned level is missing.
    """
    by_level = {feature.level: feature for feature in features}
    tokens: dict[str, torch.Tensor] = {}
    for name, level in plan.levels.items():
        values = by_level[name].values if name in by_level else None
        if values is None or tuple(values.shape[2:]) != level.shape or len(values) != plan.patches:
            raise GdmError(
                f"the encoder's level {name} is not as planned",
                found="no such level" if values is None else f"{len(values)} maps of {tuple(values.shape[2:])} cells",
                expected=f"{plan.patches} maps of {level.shape} cells",
                remedy="the strides of EncoderLevel must be those of the maps that the encoder returns",
            )
        flat = values.flatten(2)
        if level.spatial is not None:
            tokens[f"{name}/spatial"] = _gather(flat, level.spatial).squeeze(2)
        for picks in level.local:
            mean, std = _mean_and_std(_gather(flat, picks))
            tokens[f"{name}/local{picks.window}_mean"], tokens[f"{name}/local{picks.window}_std"] = mean, std
        if level.body is not None:
            patches = level.body.patches
            whole = flat if patches is None else flat.index_select(0, patches)
            mean, std = _mean_and_std_inside(whole.float(), level.body.inside)
            tokens[f"{name}/global_mean"], tokens[f"{name}/global_std"] = mean, std
    return tokens


def by_location(tokens: torch.Tensor, patches: int) -> torch.Tensor:
    """Tokens (S, C) of an `aligned` plan as one drift problem per place: (S / B, B, C)."""
    return tokens.view(patches, len(tokens) // patches, tokens.shape[1]).transpose(0, 1)


def _map_shape(patch_size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-n // s) for n, s in zip(patch_size, stride, strict=True))


def _gather(flat: torch.Tensor, picks: Picks) -> torch.Tensor:
    """(B, C, cells) at the picks: (S, C, window ** dimensions) float32."""
    patches, count, size = picks.cells.shape
    places = picks.cells.view(patches, 1, count * size).expand(-1, flat.shape[1], -1)
    drawn = flat.gather(2, places).float().reshape(patches, -1, count, size).transpose(1, 2).flatten(0, 1)
    return drawn if picks.kept is None else drawn.index_select(0, picks.kept)


def _mean_and_std(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Over the last axis of (S, C, cells); both (S, C)."""
    count = values.shape[2]
    mean = values.mean(2)
    return mean, _spread(values - mean.detach().unsqueeze(2), count)


def _mean_and_std_inside(values: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Over the last axis of (S, C, cells), where `inside` (S, 1, cells) is 1; both (S, C)."""
    values = values * inside
    count = inside.sum(2)
    mean = values.sum(2) / count
    return mean, _spread(torch.addcmul(values, mean.detach().unsqueeze(2), inside, value=-1), count)


def _spread(centred: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """Standard deviation of values less their mean.

    Two passes: no cancellation. The variance does not change with the mean to first order, hence the mean is detached.
    """
    length: torch.Tensor = torch.linalg.vector_norm(centred, dim=2)
    root = count.sqrt() if isinstance(count, torch.Tensor) else math.sqrt(count)
    # sqrt(length^2 / count + floor) in two kernels.
    return torch.hypot(length / root, torch.tensor(math.sqrt(VARIANCE_FLOOR), dtype=length.dtype))
