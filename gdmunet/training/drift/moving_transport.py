"""The transport of every token set, renewed from running moments while a training moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from gdmunet.errors import GdmError
from gdmunet.training.drift.moments import RunningMoments, Tokens
from gdmunet.training.drift.tokens import TokenSet
from gdmunet.training.drift.transport import Transport, transport_between, transport_loss

TOKENS_PER_CHANNEL = 4
"""Fewest tokens for each channel with which a covariance is one."""


@dataclass(frozen=True)
class MomentOptions:
    """Numbers of the field ``transport``; the trainers' settings take their defaults from here.

    Attributes
    ----------
    decay
        Share of the past that the moments keep at each batch.
    batches
        Batches that fill the moments before the first step.
    refresh
        Steps of the field after which the map of a set is renewed; the sets take turns.
    """

    decay: float = 0.97
    batches: int = 16
    refresh: int = 4

    def __post_init__(self) -> None:
        if not (0 <= self.decay < 1 and self.batches >= 1 and self.refresh >= 1):
            raise GdmError(
                "running moments cannot take these numbers",
                found=f"moment_decay {self.decay}, moment_batches {self.batches}, moment_refresh {self.refresh}",
                expected="a decay from 0 to below 1, at least one batch, a refresh of 1 or more",
                remedy="correct these settings",
            )


class MovingTransport:
    """Running moments of all token sets, and the maps between them.

    The maps of a step come from the moments before it, so that its own tokens do not judge themselves, and the
    decompositions, on the CPU in float64, run while a GPU is still busy with the generator. A GPU would take longer
    for them, one by one, and the host would wait.

    Parameters
    ----------
    sets
        Token sets that drift.
    options
        See `MomentOptions`.
    device
        Device of the tokens.
    """

    def __init__(self, sets: Sequence[TokenSet], options: MomentOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.moments = RunningMoments(sets, options.decay)
        self._channels = {one.key: one.channels for one in sets}
        self._maps: dict[str, Transport] = {}
        # Of its own steps: iterations of a training, of which it may see every second, would leave sets without a turn.
        self._turn = 0

    @property
    def empty(self) -> bool:
        """Whether no batch has been seen."""
        return not any(self.moments.tokens.values())

    def renew(self) -> None:
        """Begin a step: renew the maps whose turn it is, and make those of sets with `TOKENS_PER_CHANNEL` by now."""
        seen = self.moments.tokens
        turns: dict[int, list[str]] = {}
        for number, (key, channels) in enumerate(self._channels.items()):
            turn = (self._turn + number) % self.options.refresh == 0
            if seen[key] >= TOKENS_PER_CHANNEL * channels and (turn or key not in self._maps):
                turns.setdefault(channels, []).append(key)
        for keys in turns.values():
            found = transport_between(*self.moments.gaussians(keys)).to(self.device)
            self._maps |= {key: _row(found, number) for number, key in enumerate(keys)}
        self._turn += 1

    def losses(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        """Mean squared distance () of the tokens (S, C) from where they are to go, by set; see `transport_loss`.

        Sets whose moments have not seen enough tokens are left out.
        """
        groups: dict[torch.Size, list[str]] = {}
        for key, values in tokens.items():
            if key in self._maps:
                groups.setdefault(values.shape, []).append(key)
        found: dict[str, torch.Tensor] = {}
        for keys in groups.values():
            maps = _together([self._maps[key] for key in keys])
            losses = transport_loss(torch.stack([tokens[key] for key in keys]), maps).unbind(0)
            found |= dict(zip(keys, losses, strict=True))
        return {key: found[key] for key in tokens if key in found}

    def distances(self) -> dict[str, torch.Tensor]:
        """Squared Frechet distance () over the real tokens' total variance, by set that has a map."""
        return {key: one.distance.squeeze(0) for key, one in self._maps.items()}

    def state(self) -> dict[str, Any]:
        """The state for exact resuming: tensors on the CPU; the same on every process."""
        maps = {
            key: {name: value.cpu().clone() for name, value in _parts(one).items()} for key, one in self._maps.items()
        }
        return {"moments": self.moments.state(), "maps": maps, "turn": self._turn}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` stood.

        Raises
        ------
        GdmError
            The state is that of other token sets.
        """
        self.moments.load_state(state["moments"])
        self._maps = {key: Transport(**one).to(self.device) for key, one in state["maps"].items()}
        self._turn = state.get("turn", 0)  # states of before counted no turns: any set may be the next


def _parts(one: Transport) -> dict[str, torch.Tensor]:
    return {part.name: getattr(one, part.name) for part in fields(one)}


def _row(maps: Transport, number: int) -> Transport:
    """The map of one set, still with T = 1."""
    return Transport(**{name: value[number : number + 1] for name, value in _parts(maps).items()})


def _together(maps: Sequence[Transport]) -> Transport:
    return Transport(**{part.name: torch.cat([getattr(one, part.name) for one in maps]) for part in fields(Transport)})
