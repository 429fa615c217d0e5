"""Do the slices of a series form a regular grid? If not: in which way, with the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.dicom.slices import Slice
from gdmunet.errors import GdmError
from gdmunet.quantities import counted

# Positions are written as text, often rounded to tenths of a mm. A slice this far from its place still counts:
_ROUNDING_MM = 0.051
_SHARE_OF_SPACING = 0.01  # always allowed
_MOST_SHARE_OF_SPACING = 0.1  # never exceeded for the sake of rounding
_SHARE_OF_PIXEL = 0.1  # sideways
_SAME_DIRECTION = 1e-3


@dataclass(frozen=True)
class Stack:
    """Slices in order of their position along the normal.

    Attributes
    ----------
    order
        Index into the slices given, (n,).
    along
        Position of each along the normal in mm from the first one, (n,) ascending.
    aside
        Position of each across it in mm (along a row, along a column) from the first one, (n, 2).
    axes
        (3, 3), columns: direction of a row, of a column, and the normal, all perpendicular unit vectors.
    spacing
        mm between slices: of the regular grid, or of most slices where there is none.
    problems
        Faults of the stack, in words with numbers; none for a regular grid.
    twins
        Pairs of places in the stack (i, i + 1) whose slices lie at the same position.
    """

    order: tuple[int, ...]
    along: np.ndarray
    aside: np.ndarray
    axes: np.ndarray
    spacing: float
    problems: tuple[str, ...]
    twins: tuple[tuple[int, int], ...]


def allowed_off_grid(spacing: float) -> float:
    """How far, in mm, a position written as text may lie off the grid of slices that are `spacing` mm apart."""
    return min(_MOST_SHARE_OF_SPACING * spacing, max(_SHARE_OF_SPACING * spacing, _ROUNDING_MM))


def examine(slices: Sequence[Slice], case: str | None = None) -> Stack:
    """Sort slices by position along their common normal, and say how they depart from a regular grid.

    Raises
    ------
    GdmError
        Slices of several directions, sizes or voxel spacings: these are several volumes, not one.
    """
    _check_alike(slices, case)
    axes = _axes(slices[0])
    local = np.array([s.position for s in slices]) @ axes
    order = np.argsort(local[:, 2], kind="stable")
    local = local[order] - local[order[0]]
    along, aside = local[:, 2], local[:, :2]
    steps = np.diff(along)
    apart = steps > 0.01 * min(slices[0].spacing)
    twins = tuple((int(i), int(i) + 1) for i in np.flatnonzero(~apart))
    spacing = _spacing(along, steps[apart], slices[0])
    problems = _twins(along, twins, slices, order) + _gaps(along, steps, apart, spacing) + _tilt(aside, along, slices)
    if not problems and len(slices) > 1:
        spacing = float(along[-1] / (len(slices) - 1))
    return Stack(tuple(int(i) for i in order), along, aside, axes, spacing, tuple(problems), twins)


def _check_alike(slices: Sequence[Slice], case: str | None) -> None:
    kinds: dict[str, set[tuple[float, ...]]] = {
        "sizes (rows, columns)": {s.shape for s in slices},
        "voxel spacings (mm between rows, columns)": {tuple(round(v, 4) for v in s.spacing) for s in slices},
    }
    directions = _directions(slices)
    if len(directions) > 1:
        kinds["directions (row, column)"] = directions
    for what, values in kinds.items():
        if len(values) > 1:
            shown = sorted(values)
            raise GdmError(
                f"the slices of the series differ in {what}",
                case=case,
                file=slices[0].file.parent,
                found=f"{len(values)}: " + "; ".join(map(str, shown[:4])) + (" ..." if len(values) > 4 else ""),
                expected="one volume of parallel slices",
                remedy="move the slices of each volume into a folder of their own",
            )


def _directions(slices: Sequence[Slice]) -> set[tuple[float, ...]]:
    distinct: list[np.ndarray] = []
    for orientation in dict.fromkeys(s.orientation for s in slices):
        values = np.array(orientation)
        if all(np.abs(values - known).max() > _SAME_DIRECTION for known in distinct):
            distinct.append(values)
    return {tuple(np.round(values, 4).tolist()) for values in distinct}


def _axes(first: Slice) -> np.ndarray:
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose((*lengths, row @ column + 1), 1, atol=1e-2):
        raise GdmError(
            "the directions of a slice are not perpendicular unit vectors",
            file=first.file,
            found=first.orientation,
            remedy="export the series again",
        )
    row = row / lengths[0]
    column = column - (column @ row) * row  # written with few digits, they are only nearly perpendicular
    column = column / np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _spacing(along: np.ndarray, steps: np.ndarray, first: Slice) -> float:
    if steps.size:
        return float(np.median(steps))
    if first.thickness:
        return first.thickness
    raise GdmError(
        "a single slice does not say how thick it is",
        file=first.file,
        found=f"{len(along)} slice(s) at one position, no SliceThickness",
        expected="several slices",
        remedy="choose another series",
    )


def _twins(
    along: np.ndarray, twins: Sequence[tuple[int, int]], slices: Sequence[Slice], order: np.ndarray
) -> list[str]:
    if not twins:
        return []
    first, second = (slices[order[i]].file.name for i in twins[0])
    return [
        f"duplicates: {len(twins)} of {counted(along, 'slice')} lie at the place of another one, the first at "
        f"{along[twins[0][0]]:.2f} mm ({first}, {second})"
    ]


def _gaps(along: np.ndarray, steps: np.ndarray, apart: np.ndarray, spacing: float) -> list[str]:
    """Missing slices where a step is a multiple of the others; else uneven where slices leave a regular grid."""
    steps, starts = steps[apart], along[:-1][apart]
    if not steps.size:
        return []
    allowed = allowed_off_grid(spacing)
    multiples = np.rint(steps / spacing).astype(int)
    problems = []
    wide = multiples >= 2
    if wide.any() and np.abs(steps - multiples * spacing)[wide].max() <= allowed * 2:
        places = ", ".join(f"{a:.2f} to {a + s:.2f} mm" for a, s in zip(starts[wide][:4], steps[wide][:4], strict=True))
        problems.append(
            f"missing slices: {int((multiples - 1)[wide].sum())}, in the gap(s) {places} from the first slice, "
            f"where slices are {spacing:.4g} mm apart elsewhere"
        )
        counts = np.maximum(multiples, 1)
    else:
        counts = np.ones(len(steps), dtype=int)
    places_on_grid = np.concatenate([[0], np.cumsum(counts)])
    ends = np.concatenate([[0.0], np.cumsum(steps)])
    off = np.abs(ends - places_on_grid * ends[-1] / places_on_grid[-1]).max()
    if off > allowed:
        problems.append(
            f"uneven spacing: slices are {steps.min():.4g} to {steps.max():.4g} mm apart, most {spacing:.4g} mm; "
            f"one lies {off:.3g} mm off a regular grid (allowed: {allowed:.3g} mm)"
        )
    return problems


def _tilt(aside: np.ndarray, along: np.ndarray, slices: Sequence[Slice]) -> list[str]:
    """Slices that do not lie straight above each other: sheared by one angle (gantry tilt), or displaced at random."""
    allowed = max(_SHARE_OF_PIXEL * min(slices[0].spacing), _ROUNDING_MM)
    distance = np.linalg.norm(aside, axis=1)
    if distance.max() <= allowed:
        return []
    if along[-1] > 0:
        slope = aside.T @ along / (along @ along)
        if np.linalg.norm(aside - along[:, None] * slope, axis=1).max() <= allowed:
            angle = np.degrees(np.arctan(np.linalg.norm(slope)))
            return [
                f"gantry tilt: the stack is sheared by {angle:.2f} degrees, its last slice lies {distance[-1]:.2f} mm "
                f"aside of the first (allowed: {allowed:.3g} mm)"
            ]
    return [f"displaced slices: one lies {distance.max():.2f} mm to the side of the first (allowed: {allowed:.3g} mm)"]
