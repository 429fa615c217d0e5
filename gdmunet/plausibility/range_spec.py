"""Ranges of the training cases, which plans hold, so that they travel with a model."""

from __future__ import annotations

from dataclasses import dataclass

# Name of a number to its lowest and highest value over the training cases.
Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class RangeSpec:
    """What the training cases looked like.

    Attributes
    ----------
    count
        Number of training cases.
    case
        Ranges of the numbers of a whole case (voxel size, body volume, ...), as `gdmunet.plausibility.numbers` names
        them.
    channels
        Ranges of the numbers of each condition channel, in channel order.
    target
        Ranges of the numbers of the target.
    accepted
        Checks whose findings the user accepted for the training cases: prediction does not stop for them either.
    """

    count: int
    case: Ranges
    channels: tuple[Ranges, ...]
    target: Ranges
    accepted: tuple[str, ...] = ()
