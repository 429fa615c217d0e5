"""One picture per case: condition, prediction, target and signed error in three orientations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gdmunet.atomic import atomic_file
from gdmunet.geometry import Geometry, canonical_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Array axis that is cut, in canonical order, and the name of the cut.
_CUTS = ((0, "axial"), (1, "coronal"), (2, "sagittal"))


@dataclass(frozen=True)
class ComparedVolumes:
    """The volumes of one picture, all (z, y, x) on `geometry`; values in the target's unit, except the condition's.

    Attributes
    ----------
    mask
        Body (bool); the mean absolute errors and the grey windows are taken inside. None: everywhere.
    comparable
        Whether the condition has the target's unit, so that it has an error too and shares the grey window.
    """

    condition: np.ndarray
    prediction: np.ndarray
    target: np.ndarray
    mask: np.ndarray | None
    geometry: Geometry
    comparable: bool


def draw_comparison(file: Path, volumes: ComparedVolumes, title: str, unit: str = "HU") -> Path:
    """Write a PNG: rows are the middle axial, coronal and sagittal cut, columns the four volumes.

    Slices are cut in the patient's axes (left on the right-hand side of the picture, front and head up), each
    pixel in its true proportions, whatever the orientation of the files.

    Returns
    -------
    `file`
    """
    error = volumes.prediction.astype(np.float32) - volumes.target
    inside = np.ones(error.shape, bool) if volumes.mask is None else volumes.mask
    window = _window(volumes.target, inside)
    columns = [
        (_condition_title(volumes, inside, unit), volumes.condition, _condition_window(volumes, inside, window)),
        (f"prediction\nMAE {np.abs(error)[inside].mean():.1f} {unit}", volumes.prediction, window),
        ("target", volumes.target, window),
        ("prediction - target", np.where(inside, error, 0), _error_window(error, inside)),
    ]
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: drawing alone needs half a second of imports
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 4)
    centre = _centre(inside)
    for column, (name, array, limits) in enumerate(columns):
        colours = "RdBu_r" if column == 3 else "gray"
        for row, (axis, orientation) in enumerate(_CUTS):
            image = _draw_cut(axes[row, column], array, volumes.geometry, axis, centre, limits, colours)
            if column == 0:
                axes[row, column].set_ylabel(orientation)
        axes[0, column].set_title(name, fontsize=11)
        if column >= 2:
            figure.colorbar(image, ax=axes[:, column], shrink=0.7, label=unit, location="right")
    figure.suptitle(title)
    with atomic_file(Path(file)) as stream:
        figure.savefig(stream, dpi=100, format=Path(file).suffix.removeprefix("."))
    return Path(file)


def _draw_cut(
    axes: Axes,
    array: np.ndarray,
    geometry: Geometry,
    axis: int,
    centre: tuple[int, ...],
    limits: tuple[float, float],
    colours: str,
) -> AxesImage:
    to_canonical = canonical_axes(geometry)
    spacing = to_canonical.apply_to_geometry(geometry).spacing
    marked = np.zeros(array.shape, bool)
    marked[centre] = True
    where = int(np.argwhere(to_canonical.apply(marked))[0][axis])
    cut = np.take(to_canonical.apply(array), where, axis=axis)
    vertical, horizontal = (spacing[i] for i in range(3) if i != axis)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(
        cut,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        aspect=vertical / horizontal,
        # Canonical z grows towards the head, y towards the back: z must be drawn upwards, y downwards.
        origin="upper" if axis == 0 else "lower",
        interpolation="nearest",
    )


def _centre(inside: np.ndarray) -> tuple[int, ...]:
    """Middle of the body's extent along each axis (z, y, x)."""
    return tuple(
        int(np.flatnonzero(inside.any(axis=tuple(k for k in range(3) if k != axis)))[[0, -1]].mean())
        for axis in range(3)
    )


def _window(array: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(array[inside], (1, 99))
    return float(low), float(max(high, low + 1e-3))


def _condition_window(volumes: ComparedVolumes, inside: np.ndarray, window: tuple[float, float]) -> tuple[float, float]:
    return window if volumes.comparable else _window(volumes.condition, inside)


def _error_window(error: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    limit = max(float(np.percentile(np.abs(error[inside]), 99)), 1e-3)
    return -limit, limit


def _condition_title(volumes: ComparedVolumes, inside: np.ndarray, unit: str) -> str:
    if not volumes.comparable:
        return "condition"
    error = np.abs(volumes.condition.astype(np.float32) - volumes.target)[inside].mean()
    return f"condition\nMAE {error:.1f} {unit}"
