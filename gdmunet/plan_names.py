"""Names of plans, of the networks they choose and of their configurations; light, so that ``--help`` can print them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

# Kinds of network that planning can choose; `gdmunet.preprocessing.presets` says what each fixes.
PresetName = Literal["plain", "M", "L", "XL", "tiny"]
ConfigurationName = Literal["3d_fullres", "3d_lowres", "2d"]
DEFAULT_PLANS = "gdmPlans"


def default_plans_name(preset: PresetName) -> str:
    """``gdmPlans`` for plain, ``gdmPlans_M`` and so on for the others."""
    return DEFAULT_PLANS if preset == "plain" else f"{DEFAULT_PLANS}_{preset}"


def first_to_train(configurations: Iterable[str]) -> str:
    """The configuration that a next command names: 3d_fullres if it is there, as in every first example."""
    known: tuple[str, ...] = get_args(ConfigurationName)
    return min(configurations, key=lambda name: known.index(name) if name in known else len(known))


def planning_flags(name: str) -> tuple[str, ...]:
    """The flags of planning that give plans of this name."""
    for preset in get_args(PresetName):
        if name == default_plans_name(preset):
            return ("-pl", preset)
    return ("-overwrite_plans_name", name)
