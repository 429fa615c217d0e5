"""Do the borders of the prediction's windows show?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.quantities import counted


def seam_score(prediction: np.ndarray, borders: Sequence[Sequence[int]], mask: np.ndarray | None = None) -> float:
    """Mean absolute jump across window borders over the mean absolute jump elsewhere; 1 where no seam shows.

    Parameters
    ----------
    prediction
        (z, y, x) on the grid that was windowed.
    borders
        Indices at which a window starts or ends, for every axis: index b is the step from voxel b - 1 to b.
        Ends of the volume (0 and its size) are ignored.
    mask
        (z, y, x); steps count where both voxels lie inside.

    Raises
    ------
    GdmError
        No border lies inside the volume and mask, so nothing can be scored.
    """
    sums, counts = np.zeros(2), np.zeros(2)
    for axis, indices in enumerate(borders):
        size = prediction.shape[axis]
        jumps = np.abs(np.diff(prediction.astype(np.float64), axis=axis))
        if mask is None:
            both = np.ones(jumps.shape, dtype=bool)
        else:
            both = np.take(mask > 0, range(size - 1), axis) & np.take(mask > 0, range(1, size), axis)
        inner = sorted({index - 1 for index in indices if 0 < index < size})
        at_border = np.zeros(size - 1, dtype=bool)
        at_border[inner] = True
        others = tuple(k for k in range(3) if k != axis)
        total, count = (jumps * both).sum(axis=others), both.sum(axis=others)
        sums += (total[at_border].sum(), total[~at_border].sum())
        counts += (count[at_border].sum(), count[~at_border].sum())
    if not counts.all():
        raise GdmError(
            "the volume has no seam to score",
            found=f"{counted(int(counts[0]), 'step')} across window borders, {int(counts[1])} elsewhere",
            expected="some of both inside the mask",
            remedy="score a volume that needs more than one window",
        )
    at_borders, elsewhere = sums / counts
    if elsewhere == 0:
        return 1.0 if at_borders == 0 else float("inf")
    return float(at_borders / elsewhere)
