"""DICOM files known by their first bytes, without pydicom: most commands only ask whether there are any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PREAMBLE = 128


def slice_name(number: int) -> str:
    """Name of the file of a written slice, counted from 1."""
    return f"CT_{number:04d}.dcm"


def structures_name(number: int) -> str:
    """Name of the file of a copied structure set, counted from 1."""
    return f"RS_{number:04d}.dcm"


def is_dicom(file: Path) -> bool:
    """True where a file begins as DICOM files do (128 bytes, then ``DICM``)."""
    try:
        with open(file, "rb") as stream:
            return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def dicom_files(folder: Path) -> Iterator[Path]:
    """The DICOM files of a folder and all folders in it; hidden ones are skipped."""
    return filter(is_dicom, _files(folder))


def other_files(folder: Path) -> list[Path]:
    """The files that `dicom_files` skips because they do not begin as DICOM files do; hidden ones not counted."""
    return [file for file in _files(folder) if not is_dicom(file)]


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not hidden and file.is_file():
            yield file
