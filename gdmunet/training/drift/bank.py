"""The feature bank: tokens of real target patches that earlier steps saw, one ring buffer per token set.

The encoder is frozen, so stored tokens never go stale. Generated tokens are never banked. Under several ranks every
rank banks what it sees itself: `rank_capacity` gives its share of the patches, and the shares add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

import torch

from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.quantities import counted
from gdmunet.training.distributed import rank, world_size
from gdmunet.training.draws import Draws
from gdmunet.training.drift.tokens import TokenSet, token_sets

STORED = torch.float16


class FeatureBank:
    """Ring buffers of tokens, half precision in memory, float32 out.

    Parameters
    ----------
    sets
        Token sets that are banked, as `token_sets` lists them.
    capacity_patches
        Patches that it holds; each set holds `TokenSet.per_patch` tokens per patch.
    device
        Device of the buffers, which are allocated at once.
    """

    def __init__(self, sets: Sequence[TokenSet], capacity_patches: int, device: torch.device | str = "cpu") -> None:
        if capacity_patches < 1 or not sets:
            raise GdmError(
                "a feature bank needs room for one patch of one token set at least",
                found=f"{capacity_patches} patches, {len(sets)} token sets",
                remedy="give more patches or token sets",
            )
        self._per_patch = {one.key: one.per_patch for one in sets}
        self._buffers = {
            one.key: torch.zeros(capacity_patches * one.per_patch, one.channels, dtype=STORED, device=device)
            for one in sets
        }
        self._written = dict.fromkeys(self._buffers, 0)

    @property
    def capacities(self) -> dict[str, int]:
        """Largest number of tokens of each set."""
        return {key: len(buffer) for key, buffer in self._buffers.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Tokens held of each set."""
        return {key: min(self._written[key], len(buffer)) for key, buffer in self._buffers.items()}

    @property
    def full(self) -> bool:
        """True when every buffer is: from then on new tokens replace the oldest."""
        return self.sizes == self.capacities

    def bytes(self) -> int:
        """Memory of the buffers; what `bank_bytes` predicts."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers.values())

    @torch.no_grad()
    def add(self, tokens: Mapping[str, torch.Tensor], patches: int) -> torch.Tensor:
        """Bank the tokens of real patches; the oldest make room.

        Parameters
        ----------
        tokens
            (S, C) by key, patch by patch, as `extract_tokens` returns them; sets that are not banked are left out. Of
            more than `patches * per_patch` tokens that many are kept, spread evenly.
        patches
            Patches that they come from.

        Returns
        -------
        torch.Tensor
            () whether all that was taken is finite in half precision; if not, call `refuse`. It stays on the device, so
            that the host need not wait for it.

        Raises
        ------
        GdmError
            A token is too long or short.
        """
        taken = self._taken(tokens, patches)
        for key, new in taken.items():
            if new.shape[1] != self._buffers[key].shape[1]:
                raise self._refusal(key, new)
        self._write(taken)
        if not taken:
            return torch.ones((), dtype=torch.bool, device=next(iter(self._buffers.values())).device)
        return torch.cat([new.flatten() for new in taken.values()]).to(STORED).isfinite().all()

    def refuse(self, tokens: Mapping[str, torch.Tensor], patches: int) -> NoReturn:
        """Say which tokens cannot be banked.

        Raises
        ------
        GdmError
            Always: the first set whose tokens are not finite in half precision.
        """
        taken = self._taken(tokens, patches)
        bad = [key for key, new in taken.items() if not new.to(STORED).isfinite().all()]
        raise self._refusal(bad[0], taken[bad[0]])

    def sample(
        self,
        count: int | Mapping[str, int],
        draws: Draws = Draws(),  # noqa: B008 (frozen)
    ) -> dict[str, torch.Tensor]:
        """Tokens drawn without replacement, the sets independently.

        Parameters
        ----------
        count
            Tokens of every set, or by key; sets that are not named are left out.
        draws
            Source of the draws.

        Returns
        -------
        dict
            (count, C) float32 by key.

        Raises
        ------
        GdmError
            A set is not banked, or holds fewer tokens than asked for.
        """
        counts = dict.fromkeys(self._buffers, count) if isinstance(count, int) else dict(count)
        self._check_enough(counts)
        sizes, picked = self.sizes, []
        for key, number in counts.items():
            buffer = self._buffers[key]
            places = draws.permutation(sizes[key], buffer.device)[:number]
            picked.append(buffer.index_select(0, places))
        drawn = [torch.empty_like(tokens, dtype=torch.float32) for tokens in picked]
        if drawn:
            torch._foreach_copy_(drawn, picked)  # all at once: a kernel for each set costs more than its few tokens
        return dict(zip(counts, drawn, strict=True))

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """The state for exact resuming, as tensors on the CPU."""
        sizes = self.sizes
        return {
            key: {"tokens": buffer[: sizes[key]].cpu().clone(), "written": torch.tensor(self._written[key])}
            for key, buffer in self._buffers.items()
        }

    def load_state(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Continue where `state` stood.

        Raises
        ------
        GdmError
            The state belongs to another bank.
        """
        saved_shapes = {key: tuple(saved["tokens"].shape) for key, saved in state.items()}
        expected = {
            key: (min(int(state[key]["written"]), len(buffer)) if key in state else 0, buffer.shape[1])
            for key, buffer in self._buffers.items()
        }
        if saved_shapes != expected:
            raise GdmError(
                "the saved feature bank does not fit",
                found=saved_shapes,
                expected=expected,
                remedy="continue with the same encoder, families, bank capacity and number of GPUs, or start over",
            )
        for key, buffer in self._buffers.items():
            buffer[: len(state[key]["tokens"])] = state[key]["tokens"].to(buffer.device)
            self._written[key] = int(state[key]["written"])

    def _taken(self, tokens: Mapping[str, torch.Tensor], patches: int) -> dict[str, torch.Tensor]:
        """The tokens that find room, by key."""
        taken = {}
        for key, buffer in self._buffers.items():
            if key in tokens and len(tokens[key]):
                taken[key] = _thinned(tokens[key].detach(), patches * self._per_patch[key])[-len(buffer) :]
        return taken

    def _write(self, taken: Mapping[str, torch.Tensor]) -> None:
        """Behind the last token that was written, and from the start again where a buffer ends; all at once."""
        places: list[torch.Tensor] = []
        values: list[torch.Tensor] = []
        for key, new in taken.items():
            buffer = self._buffers[key]
            start = self._written[key] % len(buffer)
            before_end = min(len(new), len(buffer) - start)
            places += [buffer[start : start + before_end], buffer[: len(new) - before_end]]
            values += [new[:before_end], new[before_end:]]
            self._written[key] += len(new)
        if places:
            torch._foreach_copy_(places, values)

    def _refusal(self, key: str, new: torch.Tensor) -> GdmError:
        return GdmError(
            f"tokens of {key} cannot be banked",
            found=f"{counted(new.shape[1], 'channel')}, largest value {float(new.abs().max()):.4g}",
            expected=f"{counted(self._buffers[key].shape[1], 'channel')}, finite and at most "
            f"{torch.finfo(STORED).max:.0f}",
            remedy="the encoder's features must be scaled to fit half precision",
        )

    def _check_enough(self, counts: Mapping[str, int]) -> None:
        sizes = self.sizes
        short = [
            f"{key}: {sizes.get(key, 0)} of {number}" for key, number in counts.items() if number > sizes.get(key, 0)
        ]
        if short:
            raise GdmError(
                "the feature bank holds too few tokens",
                found="; ".join(short),
                remedy="fill the bank with real patches first, ask for fewer tokens or raise its capacity",
            )


def _thinned(tokens: torch.Tensor, most: int) -> torch.Tensor:
    if len(tokens) <= most:
        return tokens
    return tokens[torch.arange(most, device=tokens.device) * len(tokens) // most]


def rank_capacity(capacity_patches: int) -> int:
    """This rank's share of a bank of that many patches; the shares of all ranks add up to it."""
    whole, rest = divmod(capacity_patches, world_size())
    return whole + (rank() < rest)


def sets_bytes(sets: Iterable[TokenSet], capacity_patches: int) -> int:
    """Bytes of a bank of those sets."""
    return sum(capacity_patches * one.per_patch * one.channels * STORED.itemsize for one in sets)


def bank_bytes(
    levels: Sequence[EncoderLevel],
    patch_size: Sequence[int],
    families: Sequence[str],
    tokens_per_patch: int,
    capacity_patches: int,
) -> int:
    """Bytes of a bank before it is allocated; under several ranks of one rank whose share is `capacity_patches`."""
    return sets_bytes(token_sets(levels, patch_size, families, tokens_per_patch), capacity_patches)
