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
from torch.nn import functional

from gdmunet.encoders.base import FeatureMap
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel

FAMILIES = ("spatial", "local", "global")
WINDOWS = (2, 4)
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
    """

    key: str
    channels: int
    per_patch: int


@dataclass(frozen=True)
class Picks:
    """Places drawn in one map.

    Attributes
    ----------
    cells
        (B, K, window ** dimensions) flat places in the map.
    kept
        Rows of the (B * K) drawn ones that exist, patch by patch; None: all of them.
    window
        Cells along an edge; 1 is a single place.
    """

    cells: torch.Tensor
    kept: torch.Tensor | None
    window: int


@dataclass(frozen=True)
class LevelPlan:
    """Places of the tokens of one level.

    Attributes
    ----------
    shape, spatial, local
        Shape of the map in cells; number of drawn places; number of drawn windows of each size.
    body
        (B', 1, cells) float32, 1 in the body, of the patches that have some; None: no global tokens are wanted.
    patches
        (B') numbers of those patches.
    """

    shape: tuple[int, ...]
    spatial: Picks | None
    local: tuple[Picks, ...]
    body: torch.Tensor | None
    patches: torch.Tensor | None


@dataclass(frozen=True)
class TokenPlan:
    """Places of the tokens of a batch.

    Attributes
    ----------
    levels
        Plans by the name of the level.
    patches
        Number of patches in the batch.
    """

    levels: dict[str, LevelPlan]
    patches: int


def token_sets(
    levels: Sequence[EncoderLevel],
    patch_size: Sequence[int],
    families: Sequence[str],
    tokens_per_patch: int,
) -> tuple[TokenSet, ...]:
    """All sets that patches of that size can have, before anything is computed."""
    _check_families(families)
    sets = []
    for level in levels:
        shape = _map_shape(patch_size, level.stride)
        if "spatial" in families:
            count = min(tokens_per_patch, math.prod(shape))
            sets.append(TokenSet(f"{level.name}/spatial", level.channels, count))
        for window in _windows(shape) if "local" in families else ():
            count = min(tokens_per_patch, math.prod(n // window for n in shape))
            sets += [TokenSet(f"{level.name}/local{window}_{part}", level.channels, count) for part in ("mean", "std")]
        if "global" in families:
            sets += [TokenSet(f"{level.name}/global_{part}", level.channels, 1) for part in ("mean", "std")]
    return tuple(sets)


@torch.no_grad()
def plan_tokens(
    mask: torch.Tensor,
    levels: Sequence[EncoderLevel],
    families: Sequence[str],
    tokens_per_patch: int,
    generator: torch.Generator | None = None,
    *,
    aligned: bool = False,
) -> TokenPlan:
    """Draw places inside the body, without replacement, afresh at every call.

    Parameters
    ----------
    mask
        (B, 1, z, y, x), or (B, 1, y, x) in 2D; 1 inside the body.
    levels
        All levels of the encoder; names of those to use.
    families
        Any of ``spatial``, ``local``, ``global``.
    tokens_per_patch
        Largest number of places, and of windows of each size, per patch and level. Patches with less body give fewer; a
        patch without body gives none.
    generator
        Source of the draws, on the CPU or on the mask's device.
    aligned
        Whether all patches get the same places, where all of them have body (for `by_location`).

    Returns
    -------
    TokenPlan
        A cell counts as body where at least half of its voxels do, a window where at least half of its cells' voxels
        do. Windows tile the map; where the tiles leave cells over, the tiling starts at a random cell.

    Raises
    ------
    GdmError
        An unknown family, or none.
    """
    _check_families(families)
    plans = {}
    for level in levels:
        shares = _cell_shares(mask, level.stride)
        shape = tuple(shares.shape[2:])
        spatial = _draw(shares, 1, tokens_per_patch, generator, aligned) if "spatial" in families else None
        windows = _windows(shape) if "local" in families else ()
        local = tuple(_draw(shares, window, tokens_per_patch, generator, aligned) for window in windows)
        body, patches = _global_body(shares, aligned) if "global" in families else (None, None)
        plans[level.name] = LevelPlan(shape, spatial, local, body, patches)
    return TokenPlan(plans, len(mask))


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
        if level.body is not None and level.patches is not None:
            whole = flat if len(level.patches) == plan.patches else flat[level.patches.to(flat.device)]
            mean, std = _mean_and_std(whole.float(), level.body)
            tokens[f"{name}/global_mean"], tokens[f"{name}/global_std"] = mean, std
    return tokens


def by_location(tokens: torch.Tensor, patches: int) -> torch.Tensor:
    """Tokens (S, C) of an `aligned` plan as one drift problem per place: (S / B, B, C)."""
    return tokens.view(patches, len(tokens) // patches, tokens.shape[1]).transpose(0, 1)


def _check_families(families: Sequence[str]) -> None:
    if not families or isinstance(families, str) or not set(families) <= set(FAMILIES):
        raise GdmError(
            "the token families are not known",
            found=repr(families),
            expected=f"one or more of {', '.join(FAMILIES)}",
        )


def _map_shape(patch_size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-n // s) for n, s in zip(patch_size, stride, strict=True))


def _windows(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(window for window in WINDOWS if min(shape) >= window)


def _cell_shares(mask: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Share of body voxels of every cell, (B, 1, cells...); what lies beyond the patch is not body."""
    pads = [p for n, s in zip(reversed(mask.shape[2:]), reversed(stride), strict=True) for p in (0, (-n) % s)]
    return _pool(functional.pad(mask.float(), pads), tuple(stride))


def _pool(volume: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return functional.avg_pool3d(volume, size) if len(size) == 3 else functional.avg_pool2d(volume, size)


def _draw(shares: torch.Tensor, window: int, most: int, generator: torch.Generator | None, aligned: bool) -> Picks:
    """Windows of at least half body: at most `most` of a patch, all equally likely."""
    shape = shares.shape[2:]
    counts = [n // window for n in shape]
    device = "cpu" if generator is None else generator.device
    starts = [int(torch.randint(n % window + 1, (), generator=generator, device=device)) for n in shape]
    crop = tuple(slice(start, start + count * window) for start, count in zip(starts, counts, strict=True))
    body = (_pool(shares[(slice(None), slice(None), *crop)], (window,) * len(shape)) >= 0.5).flatten(1)
    if aligned:
        body = body.all(0, keepdim=True).expand_as(body)
    ranks = torch.rand(1 if aligned else len(body), body.shape[1], generator=generator, device=device)
    ranked = ranks.to(body.device).expand_as(body).masked_fill(~body, -1).topk(min(most, body.shape[1]), dim=1)
    valid = (ranked.values >= 0).flatten()
    cells = _cells_of_windows(shape, window, starts, counts, body.device)[ranked.indices]
    return Picks(cells, None if valid.all() else valid.nonzero().squeeze(1), window)


def _cells_of_windows(
    shape: Sequence[int], window: int, starts: Sequence[int], counts: Sequence[int], device: torch.device
) -> torch.Tensor:
    """Flat cells of every tile: (tiles, window ** dimensions)."""
    cells = torch.arange(math.prod(shape), device=device).view(*shape)
    for axis, (start, count) in enumerate(zip(starts, counts, strict=True)):
        cells = cells.narrow(axis, start, count * window).unfold(axis, window, window)
    return cells.reshape(math.prod(counts), window ** len(shape))


def _global_body(shares: torch.Tensor, aligned: bool) -> tuple[torch.Tensor, torch.Tensor]:
    body = (shares >= 0.5).flatten(2)
    filled = body.any(2).squeeze(1)
    if aligned and not filled.all():
        filled = torch.zeros_like(filled)
    patches = filled.nonzero().squeeze(1)
    return body[patches].float(), patches


def _gather(flat: torch.Tensor, picks: Picks) -> torch.Tensor:
    """(B, C, cells) at the picks: (S, C, window ** dimensions) float32."""
    patches, count, size = picks.cells.shape
    places = picks.cells.to(flat.device).view(patches, 1, count * size).expand(-1, flat.shape[1], -1)
    drawn = flat.gather(2, places).float().reshape(patches, -1, count, size).transpose(1, 2).flatten(0, 1)
    return drawn if picks.kept is None else drawn.index_select(0, picks.kept.to(flat.device))


def _mean_and_std(values: torch.Tensor, weights: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Over the last axis of (S, C, cells), where the weights (S, 1, cells) are 1; both (S, C)."""
    weights = torch.ones_like(values[:1, :1]) if weights is None else weights.to(values.device)
    values = values * weights
    count = weights.sum(2)
    mean = values.sum(2) / count
    # Two passes: no cancellation. The variance does not change with the mean to first order, hence detached.
    centred = torch.addcmul(values, mean.detach().unsqueeze(2), weights, value=-1)
    length: torch.Tensor = torch.linalg.vector_norm(centred, dim=2)
    variance = length.square() / count
    return mean, (variance + VARIANCE_FLOOR).sqrt()
