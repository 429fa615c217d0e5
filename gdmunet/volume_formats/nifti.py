"""NIfTI-1, whose voxels are read and written here; its place is ITK's where its two forms agree.

A header holds two places of the volume. The rule which one counts is written here once (`_placed`).
"""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdmunet.errors import GdmError
from gdmunet.volume_formats.interface import VolumeFormat, unreadable_error

if TYPE_CHECKING:
    import numpy as np

    from gdmunet.geometry import Geometry
    from gdmunet.volume_formats.nifti_header import NiftiHeader

_LEVEL = 6  # of gzip: what ITK writes with
_COPIED_BYTES = 1 << 20


class NiftiFormat(VolumeFormat):
    """NIfTI-1 in one file."""

    endings = (".nii.gz", ".nii")

    def read(self, path: Path) -> tuple[np.ndarray, Geometry]:
        """Read a file that holds one three-dimensional volume of one value per voxel."""
        from gdmunet.volume_formats.nifti_header import read_header
        from gdmunet.volume_formats.payload import read_voxels

        header = read_header(path)
        geometry = _placed(header, path)
        voxels = read_voxels(header.payload(path))
        return _scaled(path) if header.scaled else voxels, geometry

    def write(self, path: Path, array: np.ndarray, geometry: Geometry) -> None:
        """Write a file; the places of the header that the grid was read from are written again as they were."""
        from gdmunet.volume_formats.nifti_header import can_hold, header_bytes

        stored = array.astype("uint8") if array.dtype == bool else array
        if stored.shape != geometry.shape or not can_hold(stored.dtype):
            raise ValueError(f"{stored.dtype} {stored.shape} on a grid of {geometry.shape}")
        stored = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
        with _open_to_write(path) as file:
            file.write(header_bytes(stored, geometry))
            for plane in stored:  # no second volume
                file.write(plane.tobytes())

    def grid(self, path: Path) -> Geometry:
        """Read the header alone."""
        from gdmunet.volume_formats.nifti_header import read_header

        return _placed(read_header(path), path)

    def holds_whole_numbers(self, path: Path) -> bool:
        """Read the header alone."""
        from gdmunet.volume_formats.nifti_header import read_header

        header = read_header(path)
        return not header.scaled and header.kind.kind in "iu"

    def rewrite(self, source: Path, destination: Path) -> None:
        """Pack or unpack a file, whose header stays as it is."""
        self.read(source)
        opener: Any = gzip.open if source.name.lower().endswith(".gz") else open
        with opener(source, "rb") as old, _open_to_write(destination) as new:
            shutil.copyfileobj(old, new, _COPIED_BYTES)


FORMAT = NiftiFormat()


def _open_to_write(path: Path) -> Any:
    return gzip.open(path, "wb", _LEVEL) if path.name.lower().endswith(".gz") else open(path, "wb")


def _placed(header: NiftiHeader, path: Path) -> Geometry:
    """The grid of the volume.

    With one form, that one counts; with none, ``pixdim`` alone with the origin 0; of two forms that disagree, which a
    check of plausibility finds (`gdmunet.plausibility.places`), the one that ITK takes.

    Raises
    ------
    GdmError
        A voxel size that cannot be.
    """
    from dataclasses import replace

    from gdmunet.geometry import check_voxel_size
    from gdmunet.volume_formats.itk import geometry_of, itk

    check_voxel_size(header.forms.voxel_size)
    reader = itk().ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    try:
        with _known_to_itk(path) as name:
            reader.SetFileName(name)
            reader.ReadImageInformation()
        return replace(geometry_of(reader), forms=header.forms)
    except RuntimeError as error:
        raise _itk_error(error) from error


@contextlib.contextmanager
def _known_to_itk(path: Path) -> Iterator[str]:
    """A name of the file that ITK takes: it refuses an ending of large and small letters."""
    ending = next(ending for ending in FORMAT.endings if path.name.lower().endswith(ending))
    if path.name.endswith((ending, ending.upper())):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / f"volume{ending}"
        shutil.copyfile(path, twin)
        yield str(twin)


def _scaled(path: Path) -> np.ndarray:
    """The values of a checked file whose header has a slope and an intercept, which ITK applies."""
    from gdmunet.volume_formats.itk import itk

    library = itk()
    reader = library.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    try:
        with _known_to_itk(path) as name:
            reader.SetFileName(name)
            image = reader.Execute()
    except RuntimeError as error:
        raise _itk_error(error) from error
    values: np.ndarray = library.GetArrayFromImage(image)
    return values.reshape(values.shape[-3:])


def _itk_error(error: RuntimeError) -> GdmError:
    # ITK has one kind of exception for everything.
    from gdmunet.volume_formats.itk import last_line

    if "orthonormal" in str(error):
        return GdmError(
            "the direction matrix is not orthonormal (sheared or scaled axes)",
            found=last_line(error),
            expected="three perpendicular unit vectors",
            remedy="resample the volume to an orthonormal grid",
        )
    return unreadable_error(last_line(error))
