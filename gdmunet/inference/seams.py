"""Does the position of the windows show in a prediction? Where their borders are, and what a shift changes."""

from __future__ import annotations

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.geometry import Shape, triple
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.windows import WindowGrid, plan_windows
from gdmunet.metrics.seams import seam_score
from gdmunet.preprocessing.preprocessor import PreparedCase


def window_borders(grid: WindowGrid) -> tuple[tuple[int, ...], ...]:
    """For every axis the indices b inside the volume at which a window starts or ends: between voxels b - 1 and b."""
    borders = []
    for starts, size, length in zip(grid.starts, grid.window, grid.shape, strict=True):
        ends = {start + size for start in starts}
        # Slices one voxel thick have a border everywhere, and so none that could differ from the rest.
        both = ends | set(starts) if size > 1 else set()
        borders.append(tuple(sorted(index for index in both if 0 < index < length)))
    return tuple(borders)


def prediction_seam_score(predictor: Predictor, prepared: PreparedCase, prediction: np.ndarray) -> float:
    """Seam score inside the body of a prediction (z, y, x) on the prepared grid; 1 where no seam shows.

    Raises
    ------
    GdmError
        One window holds the whole body: there is no seam.
    """
    shape: Shape = prediction.shape
    plan = predictor.window_plan(shape)
    grid = plan_windows(shape, plan.window, plan.step_size)
    return seam_score(prediction, window_borders(grid), prepared.mask)


def offset_difference(predictor: Predictor, prepared: PreparedCase, offset: Shape | None = None) -> float:
    """Mean absolute difference inside the body between two positions of the window grid, in the target's unit.

    Parameters
    ----------
    offset
        Voxels by which the second grid is shifted; None: half a step along every axis.
    """
    plan = predictor.window_plan(prepared.mask.shape)
    shift: Shape = offset or triple(int(size * plan.step_size) // 2 for size in plan.window)
    if not any(shift):
        raise GdmError(
            "a shift of 0 voxels changes nothing",
            found=shift,
            expected="at least one voxel",
            remedy="give a shift of at least one voxel",
        )
    first = predictor.predict_network_units(prepared).array
    second = predictor.predict_network_units(prepared, offset=shift).array
    difference = np.abs(first - second)[prepared.mask]
    return float(difference.mean(dtype=np.float64)) * prepared.properties.target_map.scale
