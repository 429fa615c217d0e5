"""The interface of a file format of volumes.

To add one, put a file into this folder that derives a class from `VolumeFormat` and names one object of it ``FORMAT``.
Nothing else is touched: the endings are then known to data sets, conversion, prediction, evaluation and their messages.
Heavy libraries are imported inside the methods, because the endings alone are asked for by the help of the commands.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gdmunet.errors import GdmError
from gdmunet.quantities import counted

# Characters of a header that a message shows.
_SHOWN = 80

if TYPE_CHECKING:
    import numpy as np

    from gdmunet.geometry import Geometry


class VolumeFormat(Protocol):
    """Reads and writes volumes of some endings.

    Attributes
    ----------
    endings
        Endings of the files, with their dot; one that another one ends in comes later (``.nii.gz`` before ``.gz``).
    companions
        Ending to the endings of files that hold its voxels, where a volume is more than one file.
    """

    endings: tuple[str, ...]
    companions: Mapping[str, tuple[str, ...]] = {}

    @abstractmethod
    def read(self, path: Path) -> tuple[np.ndarray, Geometry]:
        """The array (z, y, x) in its stored type, and where it lies; the file is there.

        Raises
        ------
        GdmError
            A file that is cut short, damaged, or not one three-dimensional volume; says what was found.
        """

    @abstractmethod
    def write(self, path: Path, array: np.ndarray, geometry: Geometry) -> None:
        """Write an array (z, y, x), which may be bool, into a folder where nothing else lies.

        Raises
        ------
        OSError, RuntimeError
            The file cannot be written, or was not written whole.
        """

    def grid(self, path: Path) -> Geometry:
        """Where the volume lies, by its header where that is enough; raises what `read` raises for a header."""
        return self.read(path)[1]

    def holds_whole_numbers(self, path: Path) -> bool:
        """Whether the stored type is one of whole numbers."""
        return self.read(path)[0].dtype.kind in "iub"

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The files that hold a volume, the named one first; further ones where its voxels lie beside its header."""
        return (path,)

    def rewrite(self, source: Path, destination: Path) -> None:
        """Write a file anew, whole, under another name or ending of this format."""
        array, geometry = self.read(source)
        self.write(destination, array, geometry)


def not_finite_error(count: int) -> GdmError:
    """The error of a volume with NaN or infinity."""
    return GdmError(
        "the volume has values that are not numbers",
        found=f"{counted(count, 'voxel')} of NaN or infinity",
        expected="finite values",
        remedy="replace them (air for CT), or leave the case out",
    )


def damaged_error(found: object) -> GdmError:
    """The error of a file that is cut short, or whose bytes are not what was written."""
    return GdmError(
        "the file is truncated or damaged",
        found=found,
        expected="a whole file",
        remedy="copy or export the file again",
    )


def header_error(problem: str, found: object, expected: object = None) -> GdmError:
    """The error of a header that does not say what a reader must know, or says what cannot be."""
    return GdmError(
        f"the header of the file cannot be used: {problem}",
        found=found if len(str(found)) <= _SHOWN else f"{str(found)[:_SHOWN]}...",
        expected=expected,
        remedy="export the file again, or convert it with another tool",
    )


def unreadable_error(found: object) -> GdmError:
    """The error of a file that is of another format than its name says, or of none."""
    return GdmError(
        "the file cannot be read: truncated, damaged, or not of its ending's format",
        found=found,
        remedy="copy or export it again",
    )
