"""Voxels in a file beside their header."""

from __future__ import annotations

from pathlib import Path

from gdmunet.errors import GdmError


def data_file(header: Path, name: str) -> Path:
    """The file of voxels that a header names.

    Raises
    ------
    GdmError
        Several files, one outside the header's folder, or one that is not there.
    """
    if name.upper().startswith("LIST") or "%" in name:
        raise GdmError(
            "the voxels lie in several files",
            found=f"data file {name[:80]}",
            expected="one file",
            remedy="write the volume anew as one file, for example with SimpleITK",
        )
    file = header.parent / name
    inside = header.parent.resolve()
    if inside not in file.resolve().parents:
        raise GdmError(
            "the header names a file of voxels outside its own folder",
            found=f"data file {name[:80]}",
            expected="a file beside the header",
            remedy="move the file beside its header and correct the name in the header",
        )
    if not file.is_file():
        raise GdmError(
            "the file of voxels that the header names is missing",
            found=f"no file {name[:80]} beside the header",
            expected="header and voxels in one folder",
            remedy="copy both files, or write the volume anew as one file",
        )
    return file
