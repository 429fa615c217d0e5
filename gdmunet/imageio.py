"""Volumes in and out, with every check that a volume needs before it is used; the formats are in `volume_formats`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.atomic import atomic_files
from gdmunet.composition import MaskSource
from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.geometry import Geometry
from gdmunet.host_memory import planned_memory
from gdmunet.plausibility.masks import MaskValues
from gdmunet.plausibility.places import TwoPlaces
from gdmunet.volume_formats.interface import not_finite_error
from gdmunet.volume_formats.table import format_of


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) and its grid."""

    array: np.ndarray
    geometry: Geometry


@dataclass(frozen=True)
class CaseVolumes:
    """The volumes of one case on one grid; conditions (C, z, y, x) float32, mask bool with its origin.

    `mask_values` is None where the file of the mask holds 0 and one whole number; `two_places` names the volumes whose
    NIfTI header holds two places.
    """

    identifier: str
    conditions: np.ndarray
    target: np.ndarray | None
    mask: np.ndarray | None
    geometry: Geometry
    mask_source: MaskSource = "given"
    mask_values: MaskValues | None = None
    two_places: tuple[TwoPlaces, ...] = ()

    @property
    def crop_bytes(self) -> int:
        """Bytes of all volumes and of a crop of each: what preparing the case holds before it is resampled."""
        arrays = (self.conditions, self.target, self.mask)
        return 2 * sum(array.nbytes for array in arrays if array is not None)


def read_case(case: Case) -> CaseVolumes:
    """Read all files of a case and check that they fit together.

    Raises
    ------
    GdmError
        Unreadable or unusable file, grids that differ, a mask without a voxel.
    """
    conditions = [read_volume(path, case.identifier) for path in case.conditions]
    geometry = conditions[0].geometry
    for path, volume in zip(case.conditions[1:], conditions[1:], strict=True):
        _check_grid(case, path, volume.geometry, geometry)
    target = read_volume(case.target, case.identifier) if case.target else None
    if target is not None and case.target is not None:
        _check_grid(case, case.target, target.geometry, geometry)
    mask, values = read_mask_values(case.mask, case.identifier) if case.mask else (None, None)
    if mask is not None and case.mask is not None:
        _check_grid(case, case.mask, mask.geometry, geometry)
    read = [
        *zip(conditions, case.conditions, strict=True),
        *((volume, path) for volume, path in ((target, case.target), (mask, case.mask)) if volume is not None),
    ]
    return CaseVolumes(
        case.identifier,
        # One channel is a view: a large volume is held once.
        conditions[0].array[None] if len(conditions) == 1 else np.stack([volume.array for volume in conditions]),
        target.array if target else None,
        mask.array if mask else None,
        geometry,
        mask_values=values,
        two_places=tuple(place for volume, path in read for place in TwoPlaces.of(volume.geometry, path)),
    )


def read_volume(path: Path, identifier: str | None = None, *, constant: bool = False) -> Volume:
    """Read one volume as float32.

    Parameters
    ----------
    constant
        Whether one single value everywhere is allowed, as in a prediction that failed.

    Raises
    ------
    GdmError
        Missing or unreadable or truncated file, not three-dimensional, several components per voxel, NaN or
        infinity, all voxels equal, a direction that is not orthonormal, a voxel size or extent that cannot be.
    """
    stored, geometry = _read(Path(path), identifier)
    with planned_memory(4 * stored.size, "reading the volume", identifier):
        array = stored.astype(np.float32, copy=False)
        check_values(array, path, identifier, constant=constant)
    return Volume(array, geometry)


def check_values(
    array: np.ndarray, path: Path | None = None, identifier: str | None = None, *, constant: bool = False
) -> None:
    """Refuse a volume (z, y, x) that holds NaN or infinity or, unless `constant`, one single value.

    Errors name the file and the case.
    """
    if not np.isfinite(array).all():
        raise not_finite_error(int(array.size - np.isfinite(array).sum())).located(case=identifier, file=path)
    if not constant and array.min() == array.max():
        raise GdmError(
            "the volume is empty",
            case=identifier,
            file=path,
            found=f"every voxel is {array.min():g}",
            expected="an image",
            remedy="export the volume again, or leave the case out",
        )


def read_mask(path: Path, identifier: str | None = None) -> Volume:
    """Read a mask as bool (every value above 0 is body); one without a voxel, or with NaN, is an error."""
    return read_mask_values(path, identifier)[0]


def read_mask_values(path: Path, identifier: str | None = None) -> tuple[Volume, MaskValues | None]:
    """Read a mask as bool as `read_mask` does, and what its file holds if that is not 0 and one whole number.

    Raises
    ------
    GdmError
        A mask without a voxel, or with NaN, infinity or negative values.
    """
    stored, geometry = _read(Path(path), identifier)
    check_mask_numbers(stored, path, identifier)
    array = stored > 0
    if not array.any():
        raise GdmError(
            "the mask has no voxel",
            case=identifier,
            file=path,
            found="all zero",
            expected="a body mask",
            remedy="make the mask again, or leave the case out",
        )
    return Volume(array, geometry), MaskValues.of(stored)


def check_mask_numbers(stored: np.ndarray, path: Path | None = None, identifier: str | None = None) -> None:
    """Refuse a mask (z, y, x) that holds NaN, infinity or negative values; errors name the file and the case."""
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise not_finite_error(int(stored.size - np.isfinite(stored).sum())).located(case=identifier, file=path)
    if stored.dtype.kind in "if" and stored.min() < 0:
        raise GdmError(
            "the mask has values below 0",
            case=identifier,
            file=path,
            found=f"{stored.min():g} to {stored.max():g}",
            expected="0 outside the body and 1 inside",
            remedy="threshold the mask, or give the folder of masks and not of images",
        )


def read_labels(path: Path, identifier: str | None = None) -> Volume:
    """Read a label map as int32; it may be all zero (nothing was found), but values must be whole numbers from 0."""
    array, geometry = _read(Path(path), identifier)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise not_finite_error(int(array.size - np.isfinite(array).sum())).located(case=identifier, file=path)
    labels = array.astype(np.int32)
    if labels.min() < 0 or not np.array_equal(labels, array):
        raise GdmError(
            "the label map has values that are not labels",
            case=identifier,
            file=path,
            found=f"{array.min():g} to {array.max():g}, {array.dtype}",
            expected="whole numbers from 0, one per structure",
            remedy="give the folder of label maps, not of images or probabilities",
        )
    return Volume(labels, geometry)


def write_volume(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write an array (z, y, x) with its geometry; the format follows the ending; an old file survives a failure."""
    path = Path(path)
    if array.shape != geometry.shape:
        raise GdmError(
            "array and geometry differ in shape",
            found=array.shape,
            expected=geometry.shape,
            remedy="give the geometry of this array",
        )
    # A .mhd is two files, and its header holds the other's name. ITK's RuntimeError tells no reason apart.
    with atomic_files(path, RuntimeError) as temporary:
        format_of(path).write(temporary, array, geometry)


def check_headers(case: Case) -> None:
    """Refuse a case with a file whose header is not that of a volume, or whose grid is another; no voxel is read.

    Raises
    ------
    GdmError
        The case and the file that cannot be used, and why.
    """
    first = _read_grid(case.conditions[0], case.identifier)
    for path in (*case.conditions[1:], case.target, case.mask):
        if path is not None:
            _check_grid(case, path, _read_grid(path, case.identifier), first)


def _read_grid(path: Path, identifier: str | None) -> Geometry:
    with reading("the volume cannot be read", path, case=identifier, remedy="export the volume again"):
        geometry = format_of(path).grid(path)
        geometry.check_size()
        return geometry


def _read(path: Path, identifier: str | None) -> tuple[np.ndarray, Geometry]:
    if not path.is_file():
        raise GdmError("the file is missing", case=identifier, file=path, remedy="check the path")
    with reading("the volume cannot be read", path, case=identifier, remedy="export the volume again"):
        array, geometry = format_of(path).read(path)
        geometry.check_size()
        return array, geometry


def _check_grid(case: Case, path: Path, geometry: Geometry, expected: Geometry) -> None:
    difference = geometry.difference(expected)
    if difference:
        two = "".join(f"; two places in its NIfTI header: {place.found}" for place in TwoPlaces.of(geometry))
        raise GdmError(
            "the files of a case lie on different grids",
            case=case.identifier,
            file=path,
            found=f"{difference.found}{two}",
            expected=f"{difference.expected}, as {case.conditions[0].name}",
            remedy="resample the file onto the first channel's grid, for example with SimpleITK.Resample",
        )
