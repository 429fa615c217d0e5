"""Places of voxels in the patient. Shapes and spacings are (z, y, x); origin and direction are SimpleITK's (x, y, z).

World coordinates are LPS (left, posterior, superior) in mm, as in SimpleITK and DICOM.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.nifti_forms import NiftiForms

Shape = tuple[int, int, int]
Vector = tuple[float, float, float]
T = TypeVar("T")

# mm: a header that says less or more is in another unit, or wrong.
VOXEL_SIZES = (0.05, 50.0)
LARGEST_EXTENT = 3000.0


def triple(values: Iterable[T]) -> tuple[T, T, T]:
    """Exactly three values as a tuple whose type says so: one for each axis."""
    first, second, third = values
    return first, second, third


@dataclass(frozen=True)
class GridDifference:
    """A property in which a grid differs from the one that was expected, and its value on both."""

    quantity: str
    values: tuple[float, ...]
    expected_values: tuple[float, ...]
    unit: str = ""

    @property
    def found(self) -> str:
        """The property of the grid in words."""
        return f"{self.quantity} {self.values}{self.unit}"

    @property
    def expected(self) -> str:
        """The property of the expected grid in words."""
        return f"{self.quantity} {self.expected_values}{self.unit}"

    def __str__(self) -> str:
        return f"{self.quantity} {self.values} against {self.expected_values}{self.unit}"


@dataclass(frozen=True)
class Geometry:
    """The grid of one volume.

    Attributes
    ----------
    shape
        Voxels along (z, y, x), the order of the array.
    spacing
        Voxel size in mm along (z, y, x).
    origin
        World position (x, y, z) in mm of the centre of voxel 0.
    direction
        Direction cosines as SimpleITK gives them: nine values, row by row; column k is the world direction of
        image axis k, axes counted (x, y, z).
    forms
        The places that the NIfTI header held that the grid was read from; they are written back as they were. None for
        other sources, and for every grid that is computed. Two grids may differ in it and be equal.
    """

    shape: Shape
    spacing: Vector
    origin: Vector = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    forms: NiftiForms | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GdmError(
                "a volume needs three axes of at least one voxel", found=self.shape, remedy="give an array (z, y, x)"
            )
        if min(self.spacing) <= 0 or not np.isfinite(self.spacing).all():
            raise GdmError(
                "voxel spacing must be positive", found=self.spacing, remedy="correct the spacing of the file, in mm"
            )
        if not np.isfinite(self.origin).all():
            raise GdmError(
                "the place of the volume is not made of numbers",
                found=f"origin {self.origin}",
                expected="three numbers in mm",
                remedy="export the volume again",
            )
        matrix = self.matrix
        if not np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-3):
            raise GdmError(
                "the direction matrix is not orthonormal (sheared or scaled axes)",
                found=np.round(matrix, 4).tolist(),
                expected="three perpendicular unit vectors",
                remedy="resample the volume to an orthonormal grid, for example with SimpleITK.Resample",
            )

    def check_size(self) -> None:
        """Refuse voxels and extents that no scan of a body has: a header in another unit, or a wrong one.

        Raises
        ------
        GdmError
            Voxels outside 0.05 to 50 mm, or an axis of 3 m and more.
        """
        check_voxel_size(self.spacing)
        extent = max(count * size for count, size in zip(self.shape, self.spacing, strict=True))
        if extent >= LARGEST_EXTENT:
            raise GdmError(
                "the volume is too large for a body",
                found=f"{self.shape} voxels of {_round(self.spacing)} mm (z, y, x): {extent / 1000:.3g} m wide",
                expected=f"less than {LARGEST_EXTENT / 1000:g} m along every axis",
                remedy="correct the voxel size in the header, whose unit is mm, or export the volume again",
            )

    @property
    def matrix(self) -> np.ndarray:
        """Direction cosines as a (3, 3) array; column k belongs to image axis k in (x, y, z) order."""
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    def to_world(self, index_zyx: np.ndarray) -> np.ndarray:
        """World position (..., 3) in mm (x, y, z) of a voxel index (..., 3) in (z, y, x)."""
        scaled = np.asarray(index_zyx, dtype=np.float64)[..., ::-1] * np.asarray(self.spacing[::-1])
        world: np.ndarray = scaled @ self.matrix.T + np.asarray(self.origin)
        return world

    def difference(self, other: Geometry, tolerance: float = 1e-3) -> GridDifference | None:
        """The first property in which two grids differ, or None if they are one grid.

        Origin and spacing may differ by `tolerance` of a voxel, the direction by `tolerance`.
        """
        if self.shape != other.shape:
            return GridDifference("shape", self.shape, other.shape, " voxels (z, y, x)")
        if not np.allclose(self.spacing, other.spacing, rtol=tolerance, atol=0):
            return GridDifference("spacing", _round(self.spacing), _round(other.spacing), " mm (z, y, x)")
        if not np.allclose(self.direction, other.direction, atol=tolerance):
            return GridDifference("direction", _round(self.direction), _round(other.direction))
        # Written as text in file headers, origins carry rounding: a hundredth of a voxel is the same place.
        if not np.allclose(self.origin, other.origin, rtol=0, atol=max(10 * tolerance * min(self.spacing), 1e-6)):
            return GridDifference("origin", _round(self.origin), _round(other.origin), " mm (x, y, z)")
        return None


def check_voxel_size(spacing: Vector) -> None:
    """Refuse a voxel size (z, y, x) in mm that no scan of a body has.

    Raises
    ------
    GdmError
        A size that is outside 0.05 to 50 mm, or is not a number.
    """
    low, high = VOXEL_SIZES
    if not all(low <= size <= high for size in spacing):  # NaN fails too
        raise GdmError(
            "the voxel size cannot be right",
            found=f"voxels of {' x '.join(f'{size:.4g}' for size in spacing)} mm (z, y, x)",
            expected=f"{low:g} to {high:g} mm",
            remedy="correct the voxel size in the header (its unit may be metres or micrometres instead of mm), "
            "or export the volume again",
        )


@dataclass(frozen=True)
class AxisMap:
    """Map of an array to another axis order and direction.

    Output axis i is input axis ``order[i]``, reversed where ``flipped[i]``.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Reorder the last three axes of `array` (a view, no copy)."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        return moved[(..., *(slice(None, None, -1) if flip else slice(None) for flip in self.flipped))]

    def inverse(self) -> AxisMap:
        """The map that undoes this one."""
        order = tuple(int(i) for i in np.argsort(self.order))
        return AxisMap(triple(order), triple(self.flipped[i] for i in order))

    def apply_to_geometry(self, geometry: Geometry) -> Geometry:
        """The grid of the reordered array; every voxel keeps its world position."""
        shape = triple(geometry.shape[i] for i in self.order)
        spacing = triple(geometry.spacing[i] for i in self.order)
        columns = geometry.matrix[:, ::-1]  # column i belongs to array axis i (z, y, x) from here on
        signs = np.where(self.flipped, -1.0, 1.0)
        matrix = (columns[:, list(self.order)] * signs)[:, ::-1]
        corner = np.zeros(3)
        for axis, flip in zip(self.order, self.flipped, strict=True):
            corner[axis] = geometry.shape[axis] - 1 if flip else 0
        origin = geometry.to_world(corner)
        return Geometry(shape, spacing, triple(origin.tolist()), tuple(matrix.ravel().tolist()))


def canonical_axes(geometry: Geometry) -> AxisMap:
    """The map to LPS: array axes (z, y, x) point to superior, posterior, left as nearly as the grid allows.

    The assignment maximises the sum of the absolute cosines over the six axis orders, so oblique grids
    have one answer as well; an oblique grid is reordered, never resampled.
    """
    cosines = geometry.matrix[::-1, ::-1]  # [world z, y, x] by [array axis z, y, x]
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(cosines[world, axis]) for world, axis in enumerate(axes)),
    )
    return AxisMap(triple(order), triple(bool(cosines[world, axis] < 0) for world, axis in enumerate(order)))


def _round(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
