"""The volumes of one case as the page shows them: three slices, or whole volumes for the viewer."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.evaluation.report.encoding import Scale, choose_scale, pack_mask, pack_nifti, pack_plane
from gdmunet.geometry import Geometry, canonical_axes
from gdmunet.imageio import Volume, read_mask, read_volume

# Longest side of an embedded slice, in pixels; a larger one keeps every second, third, ... voxel.
SLICE_SIDE = 320
# Longest side of an embedded volume, in voxels.
VOLUME_SIDE = 96
# Volumes of a case that a page can show.
KINDS = ("condition", "target", "prediction", "error")

# Array axis that is cut in canonical order, name, letters at the left, right, upper and lower edge.
_CUTS = ((0, "axial", "RLAP"), (1, "coronal", "RLSI"), (2, "sagittal", "APSI"))


@dataclass(frozen=True)
class CasePaths:
    """Files of the volumes of a case; None: not known or not there. `predictions` is by name of the trainer."""

    identifier: str
    condition: Path | None
    target: Path | None
    mask: Path | None
    predictions: Mapping[str, Path]


@dataclass(frozen=True)
class LoadedCase:
    """The volumes of a case, (z, y, x) on one canonical grid, and the scales in which they are stored."""

    geometry: Geometry
    condition: np.ndarray | None
    target: np.ndarray
    mask: np.ndarray | None
    predictions: dict[str, np.ndarray]
    scale: Scale
    condition_scale: Scale

    @property
    def inside(self) -> np.ndarray:
        """Mask, or everything."""
        return np.ones(self.geometry.shape, bool) if self.mask is None else self.mask

    def error(self, label: str) -> np.ndarray:
        """Prediction - target, 0 outside the mask."""
        return np.where(self.inside, self.predictions[label] - self.target, 0)


def load_case(files: CasePaths) -> LoadedCase:
    """Read a case and turn it to the canonical orientation (axes to superior, posterior, left).

    Raises
    ------
    GdmError
        No target or prediction, an unreadable file, or grids that differ.
    """
    if files.target is None or not files.predictions:
        missing = "target" if files.target is None else "prediction"
        raise GdmError(
            f"there is no {missing} to show", case=files.identifier, remedy="check the folders of the report"
        )
    target = read_volume(files.target, files.identifier)
    axes = canonical_axes(target.geometry)

    def turned(path: Path, volume: Volume) -> np.ndarray:
        difference = volume.geometry.difference(target.geometry)
        if difference:
            raise GdmError(
                "the volumes of a case lie on different grids",
                case=files.identifier,
                file=path,
                found=difference.found,
                expected=f"{difference.expected}, as the target",
                remedy="predict from the same images, or leave the case out",
            )
        return axes.apply(volume.array)

    condition = turned(files.condition, read_volume(files.condition, files.identifier)) if files.condition else None
    mask = turned(files.mask, read_mask(files.mask, files.identifier)) if files.mask else None
    predictions = {
        label: turned(path, read_volume(path, files.identifier, constant=True))
        for label, path in files.predictions.items()
    }
    turned_target = axes.apply(target.array)
    return LoadedCase(
        axes.apply_to_geometry(target.geometry),
        condition,
        turned_target,
        mask,
        predictions,
        choose_scale(turned_target, *predictions.values()),
        Scale(1, 0) if condition is None else choose_scale(condition),
    )


def slices_of(case: LoadedCase) -> dict[str, Any]:
    """Three slices through the body's middle, as ``report.js`` reads them.

    Rows run downwards and columns to the right as the slice is shown: left of the patient on the right-hand side,
    front or head up.
    """
    centre = _centre(case.inside)
    error = np.concatenate([np.abs(case.error(label)[case.inside]) for label in case.predictions])
    shown = {
        "scale": _pair(case.scale),
        "condition_scale": _pair(case.condition_scale),
        "window": _percentiles(case.target[case.inside]),
        "error": max(float(np.percentile(error, 99)), 1e-3),
        "labels": list(case.predictions),
        "cuts": [_cut(case, axis, name, edges, centre[axis]) for axis, name, edges in _CUTS],
    }
    if case.condition is not None:
        shown["condition_window"] = _percentiles(case.condition[case.inside])
    return shown


def volume_of(case: LoadedCase, kind: str, label: str, largest_side: int | None = None) -> bytes:
    """One volume of the case as .nii.gz.

    Parameters
    ----------
    kind
        One of `KINDS`.
    label
        Trainer whose prediction is wanted.
    largest_side
        Keep every second, third, ... voxel of an axis that has more voxels than this; None: all voxels.
    """
    if kind == "condition":
        if case.condition is None:
            raise GdmError("the case has no condition to show", remedy="give the folder of the conditions")
        array, scale = case.condition, case.condition_scale
    elif kind == "error":
        array = case.error(label)
        scale = choose_scale(array)
    else:
        array, scale = (case.target if kind == "target" else case.predictions[label]), case.scale
    steps = [1 if largest_side is None else -(-count // largest_side) for count in array.shape]
    array = array[tuple(slice(None, None, step) for step in steps)]
    old = case.geometry
    spacing = tuple(size * step for size, step in zip(old.spacing, steps, strict=True))
    geometry = Geometry(array.shape, spacing, old.origin, old.direction)  # type: ignore[arg-type]
    return pack_nifti(scale.store(array), geometry, scale, 1 if largest_side is None else 9)


def embedded_volumes(case: LoadedCase) -> dict[str, Any]:
    """The coarse volumes of a case for the viewer of the page: kind, or kind and number of the trainer, to base64."""
    labels = list(case.predictions)
    kinds = {"target": ("target", labels[0])}
    if case.condition is not None:
        kinds["condition"] = ("condition", labels[0])
    for number, label in enumerate(labels):
        kinds |= {f"{kind}-{number}": (kind, label) for kind in ("prediction", "error")}
    return {
        name: base64.b64encode(volume_of(case, kind, label, VOLUME_SIDE)).decode("ascii")
        for name, (kind, label) in kinds.items()
    }


def _cut(case: LoadedCase, axis: int, name: str, edges: str, index: int) -> dict[str, Any]:
    others = [k for k in range(3) if k != axis]
    step = -(-max(case.geometry.shape[k] for k in others) // SLICE_SIDE)

    def plane(array: np.ndarray) -> np.ndarray:
        cut: np.ndarray = np.take(array, index, axis=axis)[::step, ::step]
        # z grows towards the head, which is shown at the top; y grows towards the back, at the bottom.
        return cut if axis == 0 else cut[::-1]

    height, width = (case.geometry.shape[k] * case.geometry.spacing[k] for k in others)
    rows, columns = plane(case.target).shape
    return {
        "name": name,
        "edges": edges,
        "index": index,
        "count": case.geometry.shape[axis],
        "rows": rows,
        "columns": columns,
        "millimetres": [round(height, 3), round(width, 3)],
        "step": step,
        "condition": None if case.condition is None else pack_plane(case.condition_scale.store(plane(case.condition))),
        "target": pack_plane(case.scale.store(plane(case.target))),
        "mask": None if case.mask is None else pack_mask(plane(case.mask)),
        "predictions": [pack_plane(case.scale.store(plane(array))) for array in case.predictions.values()],
    }


def _centre(inside: np.ndarray) -> tuple[int, ...]:
    """Middle of the body's extent along each axis (z, y, x)."""
    return tuple(
        int(np.flatnonzero(inside.any(axis=tuple(k for k in range(3) if k != axis)))[[0, -1]].mean())
        for axis in range(3)
    )


def _percentiles(values: np.ndarray) -> list[float]:
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    return [low, max(high, low + 1e-3)]


def _pair(scale: Scale) -> list[float]:
    return [scale.slope, scale.intercept]
