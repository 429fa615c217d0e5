"""CT values and linear attenuation: mu = mu_water (1 + HU / 1000), and its inverse."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from gdmunet.scan_spec import MU_WATER

Values = TypeVar("Values", np.ndarray, torch.Tensor)
VACUUM_HU = -1000.0


def hu_to_mu(hu: Values, mu_water: float = MU_WATER) -> Values:
    """Attenuation in 1/mm of CT values; below -1000 HU, which is vacuum, there is none."""
    return hu.clip(VACUUM_HU) * (mu_water / 1000) + mu_water


def mu_to_hu(mu: Values, mu_water: float = MU_WATER) -> Values:
    """CT values of attenuations in 1/mm: the inverse of `hu_to_mu` from -1000 HU on; nothing is clipped."""
    return mu * (1000 / mu_water) + VACUUM_HU
