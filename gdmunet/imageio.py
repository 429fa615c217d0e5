"""Volumes in and out through SimpleITK, with every check that a volume needs before it is used."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from gdmunet.atomic import make_folder, writing_error
from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.nifti import scan_nifti
from gdmunet.quantities import counted

sitk.ProcessObject.SetGlobalWarningDisplay(False)
_NOT_WRITTEN = "cannot write the volume"


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) and where it lies."""

    array: np.ndarray
    geometry: Geometry


@dataclass(frozen=True)
class CaseVolumes:
    """The volumes of one case on one grid; conditions (C, z, y, x) float32, mask bool."""

    identifier: str
    conditions: np.ndarray
    target: np.ndarray | None
    mask: np.ndarray | None
    geometry: Geometry


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
    mask = read_mask(case.mask, case.identifier) if case.mask else None
    if mask is not None and case.mask is not None:
        _check_grid(case, case.mask, mask.geometry, geometry)
    return CaseVolumes(
        case.identifier,
        # One channel is a view: a large volume is held once.
        conditions[0].array[None] if len(conditions) == 1 else np.stack([volume.array for volume in conditions]),
        target.array if target else None,
        mask.array if mask else None,
        geometry,
    )


def read_volume(path: Path, identifier: str | None = None) -> Volume:
    """Read one volume as float32.

    Raises
    ------
    GdmError
        Missing or unreadable or truncated file, not three-dimensional, several components a voxel, NaN or
        infinity, all voxels equal, or a direction that is not orthonormal.
    """
    image = _read_image(Path(path), identifier)
    array = sitk.GetArrayFromImage(image).astype(np.float32, copy=False)
    check_values(array, path, identifier)
    return Volume(array, geometry_of(image, path, identifier))


def check_values(array: np.ndarray, path: Path | None = None, identifier: str | None = None) -> None:
    """Refuse a volume (z, y, x) that holds NaN or infinity, or one single value; errors name the file and the case."""
    if not np.isfinite(array).all():
        raise _not_finite_error(int(array.size - np.isfinite(array).sum()), path, identifier)
    if array.min() == array.max():
        raise GdmError(
            "the volume is empty",
            case=identifier,
            file=path,
            found=f"every voxel is {array.min():g}",
            expected="an image",
            remedy="export the volume again, or leave the case out",
        )


def read_mask(path: Path, identifier: str | None = None) -> Volume:
    """Read a mask as bool (every value above 0 is body); one without a voxel is an error."""
    image = _read_image(Path(path), identifier)
    array = sitk.GetArrayFromImage(image) > 0
    if not array.any():
        raise GdmError(
            "the mask has no voxel",
            case=identifier,
            file=path,
            found="all zero",
            expected="a body mask",
            remedy="make the mask again, or leave the case out",
        )
    return Volume(array, geometry_of(image, path, identifier))


def read_labels(path: Path, identifier: str | None = None) -> Volume:
    """Read a label map as int32; it may be all zero (nothing was found), but values must be whole numbers from 0."""
    image = _read_image(Path(path), identifier)
    array = sitk.GetArrayFromImage(image)
    labels = array.astype(np.int32)
    if labels.min() < 0 or not np.array_equal(labels, array):
        raise GdmError(
            "the label map has values that are no labels",
            case=identifier,
            file=path,
            found=f"{array.min():g} to {array.max():g}, {array.dtype}",
            expected="whole numbers from 0, one a structure",
            remedy="give the folder of label maps, not of images or probabilities",
        )
    return Volume(labels, geometry_of(image, path, identifier))


def write_volume(path: Path, array: np.ndarray, geometry: Geometry, compress: bool = True) -> None:
    """Write an array (z, y, x) with its geometry; the format follows the ending; an old file survives a failure."""
    path = Path(path)
    make_folder(path.parent)
    image = to_image(array, geometry)
    try:
        # A folder of its own, because a .mhd is two files and its header holds the other's name.
        folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
    except OSError as error:
        raise writing_error(_NOT_WRITTEN, path, error) from error
    try:
        sitk.WriteImage(image, str(folder / path.name), compress)
        _check_written(folder / path.name, image)
        for file in sorted(folder.iterdir(), key=lambda p: p.name == path.name):  # the header last
            with open(file, "rb+") as handle:
                os.fsync(handle.fileno())
            file.replace(path.with_name(file.name))
    except RuntimeError as error:  # of ITK, which tells no reason apart
        raise writing_error(_NOT_WRITTEN, path, OSError(_first_line(error))) from error
    except OSError as error:
        raise writing_error(_NOT_WRITTEN, path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def to_image(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A SimpleITK image of an array (z, y, x); bool becomes uint8."""
    if array.shape != geometry.shape:
        raise GdmError("array and geometry differ in shape", found=array.shape, expected=geometry.shape)
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def geometry_of(image: sitk.Image, path: Path | None = None, identifier: str | None = None) -> Geometry:
    """The grid of a SimpleITK image; errors name the file."""
    try:
        return Geometry(image.GetSize()[::-1], image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection())
    except GdmError as error:
        error.located(case=identifier, file=path)
        raise


def _read_image(path: Path, identifier: str | None) -> sitk.Image:
    if not path.is_file():
        raise GdmError("the file is missing", case=identifier, file=path, remedy="check the path")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, components = reader.GetSize(), reader.GetNumberOfComponents()
        if len(size) != 3 or components != 1:
            raise GdmError(
                "not a three-dimensional volume of one value a voxel",
                case=identifier,
                file=path,
                found=f"size {size} (x, y, ...), {counted(components, 'value')} per voxel",
                expected="three axes, one value",
                remedy="split a 4D series into one file a volume (one channel each); stack 2D slices first",
            )
        image = reader.Execute()
        if path.name.endswith((".nii", ".nii.gz")):
            _check_bytes(path, identifier)
        return image
    except RuntimeError as error:
        raise _read_error(path, identifier, error) from error


def _check_bytes(path: Path, identifier: str | None) -> None:
    """Refuse a NIfTI that is cut short or holds NaN: ITK reads one without a word."""
    scan = scan_nifti(path)
    if scan.not_finite:
        raise _not_finite_error(scan.not_finite, path, identifier)
    if scan.damage:
        raise GdmError(
            "the file is truncated or damaged",
            case=identifier,
            file=path,
            found=scan.damage,
            expected="a whole file",
            remedy="copy or export the file again; gzip -t FILE tests a .gz",
        )


def _not_finite_error(count: int, path: Path | None, identifier: str | None) -> GdmError:
    return GdmError(
        "the volume has values that are not numbers",
        case=identifier,
        file=path,
        found=f"{counted(count, 'voxel')} of NaN or infinity",
        expected="finite values",
        remedy="replace them (air for CT), or leave the case out",
    )


def _check_written(path: Path, image: sitk.Image) -> None:
    """Raise OSError for a NIfTI that is too short: ITK writes one onto a full disk without a word."""
    needed = 352 + image.GetNumberOfPixels() * image.GetSizeOfPixelComponent()
    if path.name.endswith(".nii.gz"):
        # A gzip stream ends with its unpacked length modulo 2^32.
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4))
            whole = int.from_bytes(file.read(4), "little") == needed % 2**32
    else:
        whole = path.suffix != ".nii" or path.stat().st_size >= needed
    if not whole:
        raise OSError(errno.ENOSPC, "the disk is full or a quota is used up")


def _read_error(path: Path, identifier: str | None, error: RuntimeError) -> GdmError:
    text = str(error)
    if "orthonormal" in text:
        return GdmError(
            "the direction matrix is not orthonormal (sheared or scaled axes)",
            case=identifier,
            file=path,
            found=_first_line(error),
            expected="three perpendicular unit vectors",
            remedy="resample the volume to an orthonormal grid",
        )
    return GdmError(
        "the file cannot be read: truncated, damaged, or not of its ending's format",
        case=identifier,
        file=path,
        found=_first_line(error),
        remedy="copy or export it again; test .gz files with gzip -t",
    )


def _check_grid(case: Case, path: Path, found: Geometry, expected: Geometry) -> None:
    difference = found.difference(expected)
    if difference:
        raise GdmError(
            "the files of a case lie on different grids",
            case=case.identifier,
            file=path,
            found=difference.found,
            expected=f"{difference.expected}, as {case.conditions[0].name}",
            remedy="resample the file onto the first channel's grid, for example with SimpleITK.Resample",
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
