"""Sizes of the drift: they follow from the budget, so planning chooses them, and trainers take them as defaults."""

from __future__ import annotations

from dataclasses import dataclass

from gdmunet.errors import GdmError


@dataclass(frozen=True)
class DriftSpec:
    """Sizes of the drift in plans. Each is the default of the trainers' setting of that name.

    Attributes
    ----------
    tokens_per_patch
        Most tokens of a set per patch.
    bank_patches
        Patches whose real tokens the feature bank holds.
    bank_tokens
        Real tokens of earlier patches that join each step, for every token set.
    battery
        Number of random encoders of trainers that have several.
    """

    tokens_per_patch: int
    bank_patches: int
    bank_tokens: int
    battery: int

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise GdmError(
                "the sizes of the drift are impossible",
                found=", ".join(f"{name} {value}" for name, value in vars(self).items()),
                expected="1 or more of each",
                remedy="plan anew, or correct them in the plans",
            )
