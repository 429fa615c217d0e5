"""A battery of random encoders: every one has the same say in where the output goes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import torch
from torch import nn

from gdmunet.encoders.base import FeatureMap, FrozenEncoder
from gdmunet.encoders.random_weights import randomise
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.seeds import step_seed
from gdmunet.training.coordination.battery import shared_by_battery
from gdmunet.training.trainers.tokens import TokenTrainer
from gdmunet.training.trainers.transport import GDMTrainerTransport, PairedStatisticsTrainer

_MEMBER = "@"


class EncoderBattery(FrozenEncoder):
    """Several encoders of one make, read as one whose levels are named ``LEVEL@MEMBER``.

    Parameters
    ----------
    members
        The encoders, frozen, with equal levels.
    """

    def __init__(self, members: Sequence[FrozenEncoder]) -> None:
        first = members[0]
        levels = [
            replace(level, name=f"{level.name}{_MEMBER}{number}")
            for number, member in enumerate(members)
            for level in member.levels
        ]
        super().__init__(levels, first.units, dimensions=first.dimensions, divisor=first.divisor)
        self.members = nn.ModuleList(members)
        self.freeze()

    def stop_after(self, levels: Sequence[EncoderLevel]) -> Self:
        """The members have been stopped before they came together."""
        del levels
        return self

    def forward(self, volume: torch.Tensor) -> tuple[FeatureMap, ...]:
        """Feature maps of all members; their gradients meet as those of `shared_by_battery`."""
        copies = shared_by_battery(volume, len(self.members))
        maps = [one for number, member in enumerate(self.members) for one in member(copies[:, number : number + 1])]
        return tuple(replace(one, level=level.name) for one, level in zip(maps, self.levels, strict=True))

    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """The members scale by themselves."""
        return raw

    def features(self, volume: torch.Tensor) -> Sequence[torch.Tensor]:
        """Maps of all members, in their order."""
        return [one.values for one in self(volume)]


class BatteryTrainer(TokenTrainer):
    """Tokens of several encoders instead of one: random ones, of whom the planned one may be the first."""

    battery: int = 4
    """Number of encoders, of the planned one's make; each costs as much."""
    battery_first: Literal["random", "planned"] = "random"
    """Weights of the first one: random like those of the others, or the planned encoder's own."""

    def build_encoder(self) -> FrozenEncoder:
        """Encoders whose random weights, from the trainer's seed, are fixed, since moments and banks outlive a step.

        Raises
        ------
        GdmError
            Fewer than one.
        """
        if self.battery < 1:
            raise GdmError(
                "a battery needs encoders",
                found=f"battery {self.battery}",
                expected="1 or more",
                remedy="set battery to 1 or more",
            )
        planned = super().build_encoder()
        planned.stop_after(self.used_levels(planned.levels))
        members = [copy.deepcopy(planned) for _ in range(self.battery)]
        first = 1 if self.battery_first == "planned" else 0
        for number, member in enumerate(members[first:], start=first):
            randomise(member, step_seed(self.seed, number))
        return EncoderBattery(members)

    @classmethod
    def used_levels(cls, levels: tuple[EncoderLevel, ...]) -> tuple[EncoderLevel, ...]:
        """Those levels of every member that a single encoder would have."""
        plain = dict.fromkeys(replace(level, name=_level_of_member(level)) for level in levels)
        wanted = {level.name for level in super().used_levels(tuple(plain))}
        return tuple(level for level in levels if _level_of_member(level) in wanted)


class GDMTrainerTransportBattery(BatteryTrainer, GDMTrainerTransport):
    """Transport in a battery of random encoders, which agree more than single ones do."""


class PairedStatisticsTrainerBattery(BatteryTrainer, PairedStatisticsTrainer):
    """Paired statistics of a battery of random encoders."""


def _level_of_member(level: EncoderLevel) -> str:
    return level.name.partition(_MEMBER)[0]
