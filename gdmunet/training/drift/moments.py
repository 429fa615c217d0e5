"""Running means and covariances of token sets: what the field ``transport`` compares.

A batch holds a few hundred tokens of a set, which is too few for a covariance of a hundred channels. So the moments of
generated tokens and those of their twins, the real tokens at the same places of the same patches, are kept as moving
averages over the same batches with the same weights: whatever a few patches have of their own is in both and cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from gdmunet.errors import GdmError
from gdmunet.training.distributed import sum_over_ranks
from gdmunet.training.drift.tokens import TokenSet

SIDES = ("generated", "real")


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
        if not 0 <= decay < 1:
            raise GdmError(
                "running moments cannot take this decay", found=decay, expected="moment_decay from 0 to below 1"
            )
        self.decay = decay
        self._first = {one.key: torch.zeros(2, one.channels, dtype=torch.float64) for one in sets}
        self._second = {one.key: torch.zeros(2, one.channels, one.channels, dtype=torch.float64) for one in sets}
        self._batches = dict.fromkeys(self._first, 0)
        self._pending: list[_Sums] = []

    @property
    def batches(self) -> dict[str, int]:
        """Number of batches that each set's averages have seen."""
        self._absorb()
        return dict(self._batches)

    @torch.no_grad()
    def add(self, generated: Mapping[str, torch.Tensor], real: Mapping[str, torch.Tensor]) -> None:
        """Take in the tokens (S, C) of one batch, over all processes, which must all call with the same sets.

        A set without a token on any process is left out.
        """
        keys = list(generated)
        if keys:
            self._pending.append(_Sums.of(keys, [torch.stack([generated[key], real[key]]) for key in keys]))

    def gaussians(self, keys: Sequence[str]) -> tuple[Gaussians, Gaussians]:
        """Those of the generated and of the real tokens of sets of one size."""
        self._absorb()
        first = torch.stack([self._first[key] for key in keys], 1)
        second = torch.stack([self._second[key] for key in keys], 1)
        covariance = second - first.unsqueeze(-1) * first.unsqueeze(-2)
        generated, real = (Gaussians(first[side], covariance[side]) for side in range(len(SIDES)))
        return generated, real

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """The state for exact resuming; the same on every process."""
        self._absorb()
        return {
            key: {
                "first": first.clone(),
                "second": self._second[key].clone(),
                "batches": torch.tensor(self._batches[key]),
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
            self._batches[key] = int(saved["batches"])

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
    keys, channels
        Token sets, and the length of their tokens.
    counts, means, squares
        On the CPU, float32, all sets one after the other: tokens of each set over all processes; means (2, C) of both
        sides; covariances (2, C, C) about these means.
    arrived
        Event of the device after which they are there; None: they are.
    """

    keys: list[str]
    channels: list[int]
    counts: torch.Tensor
    means: torch.Tensor
    squares: torch.Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, keys: list[str], pairs: list[torch.Tensor]) -> _Sums:
        """From both sides' tokens, (2, S, C) for each set."""
        pairs = [pair.detach().float() for pair in pairs]
        device = pairs[0].device
        counts = torch.tensor([pair.shape[1] for pair in pairs], dtype=torch.float32, device=device)
        sums = sum_over_ranks(torch.cat([counts, *[pair.sum(1).flatten() for pair in pairs]]))
        counts, sums = sums[: len(pairs)], sums[len(pairs) :]
        channels = [pair.shape[2] for pair in pairs]
        least = counts.clamp(min=1.0)
        means = [
            one.view(2, size) / count
            for one, size, count in zip(sums.split([2 * size for size in channels]), channels, least, strict=True)
        ]
        # Two passes: a second moment about zero would lose a small spread beside a large mean.
        centred = [pair - mean.unsqueeze(1) for pair, mean in zip(pairs, means, strict=True)]
        squares = sum_over_ranks(torch.cat([(one.mT @ one).flatten() for one in centred]))
        squares = squares / least.repeat_interleave(torch.tensor([2 * size**2 for size in channels], device=device))
        flat = torch.cat([mean.flatten() for mean in means])
        here = [part.to("cpu", non_blocking=True) for part in (counts, flat, squares)]
        arrived = None
        if device.type == "cuda":
            arrived = torch.cuda.Event()
            arrived.record()
        return cls(keys, channels, here[0], here[1], here[2], arrived)

    def moments(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """First (2, C) and second (2, C, C) moments about zero, float64, of the sets that have tokens."""
        if self.arrived is not None:
            self.arrived.synchronize()
        means = self.means.double().split([2 * size for size in self.channels])
        squares = self.squares.double().split([2 * size**2 for size in self.channels])
        found = {}
        for key, size, count, mean, square in zip(self.keys, self.channels, self.counts, means, squares, strict=True):
            if count > 0:
                first = mean.view(2, size)
                found[key] = first, square.view(2, size, size) + first.unsqueeze(-1) * first.unsqueeze(-2)
        return found
