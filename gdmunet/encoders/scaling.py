"""Maps from raw units to the inputs that published encoders were trained with. All keep the gradient.

Where the original scales every volume by its own statistics, this one takes the constants of the plans: a patch's own
statistics would make each voxel's features depend on the whole patch, and explode on a flat one.
"""

from __future__ import annotations

import torch

from gdmunet.encoders.base import VolumeUnits

Window = tuple[float, float]


def window_of(units: VolumeUnits, hounsfield: Window) -> Window:
    """The encoder's own window for HU, else the target's range: its minimum and maximum over the training cases."""
    return hounsfield if units.hounsfield else units.target.clip


def rescale(raw: torch.Tensor, window: Window, low: float, high: float) -> torch.Tensor:
    """Clip to `window` and map it linearly to low .. high; no gradient beyond the window."""
    bottom, top = window
    return (raw.clamp(bottom, top) - bottom) * ((high - low) / max(top - bottom, 1e-6)) + low


def standardize(raw: torch.Tensor, units: VolumeUnits) -> torch.Tensor:
    """(x - mean) / standard deviation with the mean and SD of the target inside the body."""
    return (raw - units.target.offset) / units.target.scale
