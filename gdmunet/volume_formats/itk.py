"""NIfTI, MetaImage and NRRD through SimpleITK, with the checks that ITK leaves out."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdmunet.errors import GdmError
from gdmunet.quantities import counted
from gdmunet.volume_formats.interface import VolumeFormat, not_finite_error

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk

    from gdmunet.geometry import Geometry


class ItkFormat(VolumeFormat):
    """The formats that ITK reads and writes."""

    endings = (".nii.gz", ".nii", ".mha", ".nrrd", ".mhd")
    companions: Mapping[str, tuple[str, ...]] = {".mhd": (".raw", ".zraw")}

    def read(self, path: Path) -> tuple[np.ndarray, Geometry]:
        """Read a file that holds one three-dimensional volume of one value per voxel."""
        sitk = _library()
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
            size, components = reader.GetSize(), reader.GetNumberOfComponents()
            if len(size) != 3 or components != 1:
                raise GdmError(
                    "not a three-dimensional volume of one value per voxel",
                    found=f"size {size} (x, y, ...), {counted(components, 'value')} per voxel",
                    expected="three axes, one value",
                    remedy="split a 4D series into one file per volume (one channel each); stack 2D slices first",
                )
            if path.name.endswith((".nii", ".nii.gz")):
                voxels = _checked_voxels(path)
                if voxels is not None and voxels.shape == size[::-1] and _is_grid(reader):
                    return voxels, geometry_of(reader)
            image = reader.Execute()
        except RuntimeError as error:
            raise _read_error(error) from error
        return sitk.GetArrayFromImage(image), geometry_of(image)

    def write(self, path: Path, array: np.ndarray, geometry: Geometry) -> None:
        """Write a file, and check that a NIfTI is whole."""
        image = to_image(array, geometry)
        _library().WriteImage(image, str(path), True)  # compressed, where the format can be
        _check_written(path, image)

    def holds_whole_numbers(self, path: Path) -> bool:
        """Read the header alone."""
        sitk = _library()
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        return reader.GetPixelID() not in (sitk.sitkFloat32, sitk.sitkFloat64)

    def rewrite(self, source: Path, destination: Path) -> None:
        """Write a file anew; the header keeps the fields that ITK knows."""
        sitk = _library()
        sitk.WriteImage(sitk.ReadImage(str(source)), str(destination), True)


FORMAT = ItkFormat()


def to_image(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A SimpleITK image of an array (z, y, x); bool becomes uint8."""
    if array.shape != geometry.shape:
        raise GdmError("array and geometry differ in shape", found=array.shape, expected=geometry.shape)
    image: sitk.Image = _library().GetImageFromArray(array.astype("uint8") if array.dtype == bool else array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def geometry_of(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """The grid of a SimpleITK image, or of the header that a reader has read."""
    from gdmunet.geometry import Geometry

    held: Any = image
    return Geometry(held.GetSize()[::-1], held.GetSpacing()[::-1], held.GetOrigin(), held.GetDirection())


def _library() -> Any:
    library: Any = importlib.import_module("SimpleITK")
    library.ProcessObject.SetGlobalWarningDisplay(False)
    return library


def _checked_voxels(path: Path) -> np.ndarray | None:
    """The voxels of a NIfTI where they need no ITK; refuses one that is cut short or holds NaN: ITK says no word."""
    from gdmunet.volume_formats.nifti import read_nifti

    scan = read_nifti(path)
    if scan.not_finite:
        raise not_finite_error(scan.not_finite)
    if scan.damage:
        raise GdmError(
            "the file is truncated or damaged",
            found=scan.damage,
            expected="a whole file",
            remedy="copy or export the file again; gzip -t FILE tests a .gz",
        )
    return scan.voxels


def _is_grid(reader: Any) -> bool:
    """Whether spacing and direction of the header are those of the image: ITK mends odd ones with the voxels."""
    import numpy as np

    turned = np.reshape(reader.GetDirection(), (3, 3))
    return min(reader.GetSpacing()) > 0 and bool(np.allclose(turned @ turned.T, np.eye(3), atol=1e-3))


def _check_written(path: Path, image: Any) -> None:
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


def _read_error(error: RuntimeError) -> GdmError:
    # ITK has one kind of exception for everything.
    if "orthonormal" in str(error):
        return GdmError(
            "the direction matrix is not orthonormal (sheared or scaled axes)",
            found=last_line(error),
            expected="three perpendicular unit vectors",
            remedy="resample the volume to an orthonormal grid",
        )
    return GdmError(
        "the file cannot be read: truncated, damaged, or not of its ending's format",
        found=last_line(error),
        remedy="copy or export it again; test .gz files with gzip -t",
    )


def last_line(error: Exception) -> str:
    """The end of a message of ITK; before it stand file and line of its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
