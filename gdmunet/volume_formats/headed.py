"""Formats whose header is read here and whose voxels are unpacked and counted here; ITK writes them."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gdmunet.volume_formats.interface import VolumeFormat

if TYPE_CHECKING:
    import numpy as np

    from gdmunet.geometry import Geometry
    from gdmunet.volume_formats.payload import Payload


class Header(Protocol):
    """A header that was read: where the voxels lie, and their grid."""

    def payload(self, path: Path) -> Payload:
        """The voxels that the header of the file `path` describes."""

    def geometry(self, shape: tuple[int, ...]) -> Geometry:
        """The grid of voxels of that shape (z, y, x)."""


class HeadedFormat(VolumeFormat):
    """A format of which a subclass reads the header."""

    @abstractmethod
    def header(self, path: Path) -> Header:
        """Read the header alone."""

    def read(self, path: Path) -> tuple[np.ndarray, Geometry]:
        """Read a file that holds one three-dimensional volume of one value per voxel."""
        from gdmunet.volume_formats.payload import read_voxels

        header = self.header(path)
        payload = header.payload(path)
        geometry = header.geometry(payload.shape)
        return read_voxels(payload), geometry

    def write(self, path: Path, array: np.ndarray, geometry: Geometry) -> None:
        """Write a file, compressed."""
        from gdmunet.volume_formats.itk import write_by_itk

        write_by_itk(path, array, geometry)

    def grid(self, path: Path) -> Geometry:
        """Read the header alone."""
        header = self.header(path)
        return header.geometry(header.payload(path).shape)

    def holds_whole_numbers(self, path: Path) -> bool:
        """Read the header alone."""
        return self.header(path).payload(path).kind.kind in "iu"
