"""SimpleITK's images and this package's arrays and grids; the formats give it only bytes that they have checked."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdmunet.errors import GdmError

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk

    from gdmunet.geometry import Geometry


def to_image(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A SimpleITK image of an array (z, y, x); bool becomes uint8."""
    if array.shape != geometry.shape:
        raise GdmError(
            "array and geometry differ in shape",
            found=array.shape,
            expected=geometry.shape,
            remedy="give the geometry of this array",
        )
    image: sitk.Image = itk().GetImageFromArray(array.astype("uint8") if array.dtype == bool else array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def geometry_of(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """The grid of a SimpleITK image, or of the header that a reader has read."""
    from gdmunet.geometry import Geometry

    held: Any = image
    return Geometry(held.GetSize()[::-1], held.GetSpacing()[::-1], held.GetOrigin(), held.GetDirection())


def write_by_itk(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write a file, compressed where its format can be; ITK knows most endings in small letters alone."""
    known = path.with_suffix(path.suffix.lower())
    itk().WriteImage(to_image(array, geometry), str(known), True)
    if known != path:
        known.rename(path)


def itk() -> Any:
    """SimpleITK, which then prints no warnings of its own."""
    library: Any = importlib.import_module("SimpleITK")
    library.ProcessObject.SetGlobalWarningDisplay(False)
    return library


def last_line(error: Exception) -> str:
    """The end of a message of ITK; before it stand file and line of its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
