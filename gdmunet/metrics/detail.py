"""Is the prediction as sharp as the target?"""

from __future__ import annotations

import numpy as np
import scipy


def detail_ratio(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> float | None:
    """Energy of the prediction's fine detail over that of the target: 1 is right, below 1 is blurred.

    Fine detail is a volume less its mean over 3^3 voxels, squared, averaged inside the mask one voxel away from its
    rim, where no voxel from outside has a say.

    Returns
    -------
    None where the mask is too thin, or the target has no detail at all.
    """
    inside = np.ones(target.shape, dtype=bool) if mask is None else mask > 0
    # An erosion by 3^3, as a minimum along each axis; outside the volume is not inside.
    inner = scipy.ndimage.minimum_filter(inside.view(np.uint8), 3, mode="constant").view(bool)
    if not inner.any():
        return None

    def energy(volume: np.ndarray) -> float:
        composed = np.where(inside, volume, 0.0).astype(np.float64)
        return float(np.square(composed - scipy.ndimage.uniform_filter(composed, 3))[inner].mean())

    reference = energy(target)
    return energy(prediction) / reference if reference > 0 else None
