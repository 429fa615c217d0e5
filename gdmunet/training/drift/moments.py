"""Running means and covariances of token sets: what the field ``transport`` compares.

A batch holds a few hundred tokens of a set, which is too few for a covariance of a hundred channels. So the moments of
generated tokens and those of their twins, the real tokens at the same places of the same patches, are kept as moving
averages over the same batches with the same weights: whatever a few patches have of their own is in both and cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from gdmunet.device import exact_float32, full_precision
from gdmunet.errors import GdmError
from gdmunet.training.distributed import sum_over_ranks
from gdmunet.training.drift.tokens import TokenSet

Tokens: TypeAlias = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Gaussians:
    """Means and covariances of T token sets of one size.

    Attributes
    ----------
    mean
        (T, D) float64.
    covariance
        (T, D, D) float64.
    """

    mean: torch.Tensor
    covariance: torch.Tensor


class RunningMoments:
    """Moving averages of both sides' first and second moments, by token set; float64, on the CPU.

    The present batch enters with weight 1 - `decay`, or with that of a plain average while that is larger. Its sums
    are formed where the tokens lie; they are copied to the CPU without waiting, and join the averages when these are
    next asked for. So a step that asks before it adds never waits for its device.

    Parameters
    ----------
    sets
        Token sets that are kept.
    decay
        Share of the past that is kept at each batch, 0 to below 1.
    """

    def __init__(self, sets: Sequence[TokenSet], decay: float) -> None:
        self.decay = decay
        self._first = {one.key: _zeros(2, one.channels) for one in sets}
        self._second = {one.key: _zeros(2, one.channels, one.channels) for one in sets}
        self._batches = dict.fromkeys(self._first, 0)
        self._tokens = dict.fromkeys(self._first, 0)
        self._pending: list[_Sums] = []

    @property
    def batches(self) -> dict[str, int]:
        """Number of batches that each set's averages have seen."""
        self._absorb()
        return dict(self._batches)

    @property
    def tokens(self) -> dict[str, int]:
        """Number of tokens of each side that each set's averages have seen, over all processes."""
        return dict(self._tokens)

    @torch.no_grad()
    def add(self, generated: Tokens, real: Tokens, totals: Mapping[str, int]) -> None:
        """Take in one batch.

        Parameters
        ----------
        generated, real
            Tokens (S, C) by set, as many of both; all processes must name the same sets.
        totals
            Number of each set's tokens over all processes; a set without any is left out.
        """
        kept = {key: tokens for key, tokens in generated.items() if totals[key]}
        for key in kept:
            self._tokens[key] += totals[key]
        if kept:
            with exact_float32(), full_precision(next(iter(kept.values())).device):
                self._pending.append(_Sums.of(kept, real, totals))

    def gaussians(self, keys: Sequence[str]) -> tuple[Gaussians, Gaussians]:
        """Those of the generated and of the real tokens of sets of one size."""
        self._absorb()
        first = torch.stack([self._first[key] for key in keys], 1)
        second = torch.stack([self._second[key] for key in keys], 1)
        covariance = second - first.unsqueeze(-1) * first.unsqueeze(-2)
        generated, real = (Gaussians(first[side], covariance[side]) for side in (0, 1))
        return generated, real

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """The state for exact resuming; the same on every process."""
        self._absorb()
        return {
            key: {
                "first": first.clone(),
                "second": self._second[key].clone(),
                "batches": torch.tensor(self._batches[key]),
                "tokens": torch.tensor(self._tokens[key]),
            }
            for key, first in self._first.items()
        }

    def load_state(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Continue where `state` stood.

        Raises
        ------
        GdmError
            The state is that of other token sets.
        """
        shapes = {key: tuple(saved["first"].shape) for key, saved in state.items()}
        expected = {key: tuple(first.shape) for key, first in self._first.items()}
        if shapes != expected:
            raise GdmError(
                "the saved moments do not fit",
                found=shapes,
                expected=expected,
                remedy="continue with the same encoder and families, or start over",
            )
        self._pending.clear()
        for key, saved in state.items():
            self._first[key], self._second[key] = saved["first"].clone(), saved["second"].clone()
            self._batches[key], self._tokens[key] = int(saved["batches"]), int(saved["tokens"])

    def _absorb(self) -> None:
        for sums in self._pending:
            for key, (first, second) in sums.moments().items():
                share = max(1.0 - self.decay, 1.0 / (self._batches[key] + 1))
                self._first[key].lerp_(first, share)
                self._second[key].lerp_(second, share)
                self._batches[key] += 1
        self._pending.clear()


@dataclass(frozen=True)
class _Sums:
    """Moments of one batch on their way to the CPU.

    Attributes
    ----------
    channels
        Length of the tokens, by set.
    means, squares
        On the CPU, float32, all sets one after the other: means (2, C) of both sides; covariances (2, C, C) about them.
    arrived
        Event of the device after which they are there; None: they are.
    """

    channels: dict[str, int]
    means: torch.Tensor
    squares: torch.Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, generated: Tokens, real: Tokens, totals: Mapping[str, int]) -> _Sums:
        """From both sides' tokens (S, C) of sets that have some."""
        channels = {key: tokens.shape[1] for key, tokens in generated.items()}
        stacks = _stacked(generated, real, totals)
        sums = {key: one for stack in stacks for key, one in stack.by_set(stack.tokens.sum(1)).items()}
        means = sum_over_ranks(torch.cat([sums[key].flatten() for key in channels]))
        parts = dict(zip(channels, means.split([2 * size for size in channels.values()]), strict=True))
        # Two passes: a second moment about zero would lose a small spread beside a large mean.
        squares = {key: one for stack in stacks for key, one in stack.by_set(stack.squares(parts)).items()}
        flat = sum_over_ranks(torch.cat([squares[key].flatten() for key in channels]))
        host = [part.to("cpu", non_blocking=True) for part in (means, flat)]
        arrived = None
        if means.device.type == "cuda":
            arrived = torch.cuda.Event()
            arrived.record()
        return cls(channels, host[0], host[1], arrived)

    def moments(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """First (2, C) and second (2, C, C) moments about zero, float64."""
        if self.arrived is not None:
            self.arrived.synchronize()
        means = self.means.double().split([2 * size for size in self.channels.values()])
        squares = self.squares.double().split([2 * size**2 for size in self.channels.values()])
        found = {}
        for (key, size), mean, square in zip(self.channels.items(), means, squares, strict=True):
            first = mean.view(2, size)
            found[key] = first, square.view(2, size, size) + first.unsqueeze(-1) * first.unsqueeze(-2)
        return found


@dataclass(frozen=True)
class _Stack:
    """Sets of one size, so that a GPU starts few kernels.

    Attributes
    ----------
    keys
        K sets.
    tokens
        (2 K, S, C) float32, set by set first the generated ones, then the real ones.
    total
        Tokens of each set over all processes.
    """

    keys: list[str]
    tokens: torch.Tensor
    total: int

    def by_set(self, sums: torch.Tensor) -> dict[str, torch.Tensor]:
        """Sums (2 K, ...) over tokens as parts of the mean over all processes, (2, ...) by set."""
        return dict(zip(self.keys, (sums / self.total).unflatten(0, (-1, 2)), strict=True))

    def squares(self, means: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(2 K, C, C) sums of products of the channels, less their means."""
        centre = torch.cat([means[key] for key in self.keys]).view(len(self.tokens), 1, -1)
        centred = self.tokens - centre
        return centred.mT @ centred


def _zeros(*shape: int) -> torch.Tensor:
    """On the CPU, also where memory is counted and the default is another device."""
    return torch.zeros(shape, dtype=torch.float64, device="cpu")


def _stacked(generated: Tokens, real: Tokens, totals: Mapping[str, int]) -> list[_Stack]:
    groups: dict[object, list[str]] = {}
    for key, tokens in generated.items():
        groups.setdefault((tokens.shape, totals[key]), []).append(key)
    return [
        _Stack(keys, torch.stack([side[key] for key in keys for side in (generated, real)]).float(), totals[keys[0]])
        for keys in groups.values()
    ]
