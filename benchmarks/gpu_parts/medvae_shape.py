"""An encoder of MedVAE's shape with random weights: what its step costs does not depend on what it has learnt."""

from __future__ import annotations

from pathlib import Path

import torch

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.medvae import MedVaeEncoder, MedVaeNetwork

MULTIPLIERS = (1, 2, 4)
WIDTH, NARROW = 128, 32


def build(_file: Path | None, units: VolumeUnits, _dimensions: int, _trusted: bool = False) -> FrozenEncoder:
    """128 channels at stride 1, 256 at 2, 512 at 4, as ``medvae-4x-3d`` has them."""
    return _random(units, WIDTH)


def build_narrow(_file: Path | None, units: VolumeUnits, _dimensions: int, _trusted: bool = False) -> FrozenEncoder:
    """The same at a quarter of the width, for a dry run."""
    return _random(units, NARROW)


def _random(units: VolumeUnits, width: int) -> FrozenEncoder:
    torch.manual_seed(0)
    return MedVaeEncoder(MedVaeNetwork(MULTIPLIERS, width), units)
