"""Few-view CT of a full-view CT: parallel projections and filtered back-projection, slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from skimage.transform import iradon, radon

# Linear attenuation of water in 1/mm (about 70 keV).
MU_WATER = 0.0192


def hu_to_mu(hu: np.ndarray) -> np.ndarray:
    """Attenuation in 1/mm of CT values; HU below -1000 count as vacuum."""
    return (MU_WATER * (1 + np.maximum(hu, -1000) / 1000)).astype(np.float32)


def mu_to_hu(mu: np.ndarray) -> np.ndarray:
    """CT values of attenuations in 1/mm: the inverse of `hu_to_mu` above vacuum."""
    return (1000 * (mu / MU_WATER - 1)).astype(np.float32)


def sparse_view_volume(
    ct: np.ndarray, views: int = 36, threads: int = 2, step: Callable[[], Any] = lambda: None
) -> np.ndarray:
    """Reconstruct a CT (z, y, x) in HU from `views` parallel projections over 180 degrees, each slice alone.

    Pixels are taken as square: their size scales projections and filter by inverse amounts and so falls out.
    Values are clipped to [-1024, 3071], as a scanner stores them. `step` is called after every slice.

    Returns
    -------
    float32 (z, y, x) in HU.
    """

    def reconstruct(index: int) -> None:
        volume[index] = sparse_view_slice(ct[index], views)
        step()

    volume = np.empty(ct.shape, np.float32)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(reconstruct, range(len(ct))))
    return volume


def sparse_view_slice(ct: np.ndarray, views: int) -> np.ndarray:
    """The same for one slice (y, x).

    The slice lies in a square of air, and the detector covers the circle around that square: every pixel is seen
    from every side, so corners are reconstructed like the centre.
    """
    height, width = ct.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), np.float32)
    square[top : top + height, left : left + width] = hu_to_mu(ct)
    angles = np.arange(views) * 180.0 / views
    projections = radon(square, angles, circle=False)
    mu = iradon(projections, angles, output_size=side, filter_name="ramp", circle=False)
    return np.clip(mu_to_hu(mu[top : top + height, left : left + width]), -1024, 3071)
