"""Places of the tokens: drawn inside the body, once for generated and real patches.

Which of the drawn places exist is known on the device alone. The host learns it for all levels, families and windows
in one transfer, which is the only time that it waits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from gdmunet.encoders.fine import FINE_WINDOWS
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.training.draws import Draws

FAMILIES = ("spatial", "local", "global")
WINDOWS = (2, 4)


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
class Body:
    """The body in one map.

    Attributes
    ----------
    inside
        (B', 1, cells) float32, 1 in the body, of the patches that have some.
    patches
        (B') numbers of those patches; None: all of them.
    """

    inside: torch.Tensor
    patches: torch.Tensor | None


@dataclass(frozen=True)
class LevelPlan:
    """Places of the tokens of one level.

    Attributes
    ----------
    shape, spatial, local
        Shape of the map in cells; drawn places; drawn windows of each size.
    body
        The body, for global tokens; None: none are wanted.
    """

    shape: tuple[int, ...]
    spatial: Picks | None
    local: tuple[Picks, ...]
    body: Body | None


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


@dataclass(frozen=True)
class _Drawn:
    """Windows of one map, before the host knows which of them exist: cells as in `Picks`, `exists` (B * K) bool."""

    cells: torch.Tensor
    exists: torch.Tensor
    window: int

    def picks(self, count: int) -> Picks:
        return Picks(self.cells, _rows(self.exists, count), self.window)


@dataclass(frozen=True)
class _Filled:
    """The body of one map, before the host knows which patches have some: (B, 1, cells) and (B,), both bool."""

    inside: torch.Tensor
    exists: torch.Tensor

    def body(self, count: int) -> Body:
        patches = _rows(self.exists, count)
        inside = self.inside if patches is None else self.inside.index_select(0, patches)
        return Body(inside.float(), patches)


@dataclass(frozen=True)
class _DrawnLevel:
    """A level before the host knows what exists; `body` None: no global tokens are wanted."""

    shape: tuple[int, ...]
    windows: tuple[_Drawn, ...]
    body: _Filled | None

    @property
    def flags(self) -> list[torch.Tensor]:
        """What the host must count."""
        return [one.exists for one in self.windows] + ([] if self.body is None else [self.body.exists])

    def plan(self, counts: Iterator[int]) -> LevelPlan:
        """The places, with the next of the counts for each of the flags."""
        picks = [one.picks(next(counts)) for one in self.windows]
        body = None if self.body is None else self.body.body(next(counts))
        spatial = picks.pop(0) if picks and picks[0].window == 1 else None
        return LevelPlan(self.shape, spatial, tuple(picks), body)


@torch.no_grad()
def plan_tokens(
    mask: torch.Tensor,
    levels: Sequence[EncoderLevel],
    families: Sequence[str],
    tokens_per_patch: int,
    draws: Draws = Draws(),  # noqa: B008 (frozen)
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
    draws
        Source of the draws.
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
    check_families(families)
    drawn = {level.name: _draw_level(mask, level, families, tokens_per_patch, draws, aligned) for level in levels}
    counts = iter(_counts([flags for level in drawn.values() for flags in level.flags]))
    return TokenPlan({name: level.plan(counts) for name, level in drawn.items()}, len(mask))


def check_families(families: Sequence[str]) -> None:
    """Refuse an unknown family, or none."""
    if not families or isinstance(families, str) or not set(families) <= set(FAMILIES):
        raise GdmError(
            "the token families are not known",
            found=repr(families),
            expected=f"one or more of {', '.join(FAMILIES)}",
            remedy="choose among these",
        )


def level_families(level: EncoderLevel, families: Sequence[str]) -> tuple[str, ...]:
    """The families that a level gives: at stride 1, where a voxel holds no texture, windows alone if asked for."""
    return ("local",) if _is_fine(level) and "local" in families else tuple(families)


def windows_in(level: EncoderLevel, shape: Sequence[int]) -> tuple[int, ...]:
    """Edges in cells of the windows that a level's map of that shape has room for; of 4 voxels or more."""
    return tuple(window for window in (FINE_WINDOWS if _is_fine(level) else WINDOWS) if min(shape) >= window)


def _is_fine(level: EncoderLevel) -> bool:
    return max(level.stride) == 1


def _draw_level(
    mask: torch.Tensor, level: EncoderLevel, families: Sequence[str], most: int, draws: Draws, aligned: bool
) -> _DrawnLevel:
    shares = _cell_shares(mask, level.stride)
    shape, wanted = tuple(shares.shape[2:]), level_families(level, families)
    windows = ((1,) if "spatial" in wanted else ()) + (windows_in(level, shape) if "local" in wanted else ())
    drawn = tuple(_draw(shares, window, most, draws, aligned) for window in windows)
    return _DrawnLevel(shape, drawn, _fill(shares, aligned) if "global" in wanted else None)


def _counts(flags: Sequence[torch.Tensor]) -> list[int]:
    """True values of each; one transfer for all of them."""
    known = iter(torch.cat(list(flags)).tolist())
    return [sum(itertools.islice(known, len(one))) for one in flags]


def _rows(exists: torch.Tensor, count: int) -> torch.Tensor | None:
    """The rows, `count` of them, that exist, in their order; None: all. The host knows their number and waits not."""
    if count == len(exists):
        return None
    return exists.to(torch.uint8).argsort(descending=True, stable=True)[:count]


def _cell_shares(mask: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Share of body voxels of every cell, (B, 1, cells...); what lies beyond the patch is not body."""
    pads = [p for n, s in zip(reversed(mask.shape[2:]), reversed(stride), strict=True) for p in (0, (-n) % s)]
    return _pool(functional.pad(mask.float(), pads), tuple(stride))


def _pool(volume: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    if max(size) == 1:
        return volume
    return functional.avg_pool3d(volume, size) if len(size) == 3 else functional.avg_pool2d(volume, size)


def _draw(shares: torch.Tensor, window: int, most: int, draws: Draws, aligned: bool) -> _Drawn:
    """Windows of at least half body: at most `most` of a patch, all equally likely."""
    shape = shares.shape[2:]
    counts = [n // window for n in shape]
    starts = [draws.below(n % window + 1) for n in shape]
    crop = tuple(slice(start, start + count * window) for start, count in zip(starts, counts, strict=True))
    outside = (_pool(shares[(slice(None), slice(None), *crop)], (window,) * len(shape)) < 0.5).flatten(1)
    if aligned:
        outside = outside.any(0, keepdim=True).expand_as(outside)
    ranks = draws.uniform((1 if aligned else len(outside), outside.shape[1]), outside.device)
    ranked = ranks.expand_as(outside).masked_fill(outside, -1).topk(min(most, outside.shape[1]), dim=1)
    cells = _cells_of_windows(ranked.indices, shape, window, starts, counts)
    return _Drawn(cells, (ranked.values >= 0).flatten(), window)


def _cells_of_windows(
    tiles: torch.Tensor, shape: Sequence[int], window: int, starts: Sequence[int], counts: Sequence[int]
) -> torch.Tensor:
    """Flat cells (B, K, window ** dimensions) of the tiles with those numbers (B, K)."""
    cells = torch.arange(math.prod(shape), device=tiles.device).view(*shape)
    corners = cells[tuple(slice(s, s + n * window, window) for s, n in zip(starts, counts, strict=True))]
    within = cells[(slice(window),) * len(shape)]
    return corners.take(tiles).unsqueeze(-1) + within.flatten()


def _fill(shares: torch.Tensor, aligned: bool) -> _Filled:
    inside = (shares >= 0.5).flatten(2)
    exists = inside.any(2).squeeze(1)
    return _Filled(inside, exists & exists.all() if aligned else exists)
