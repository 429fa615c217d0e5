"""The last act of a command: the files that it promised are counted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.quantities import counted, listed


def check_promised(files: Iterable[Path]) -> None:
    """Count the files that a command wrote, at its end.

    Raises
    ------
    GdmError
        Names those that are not there: somebody removed the folder, or a disk lost them.
    """
    promised = list(files)
    missing = [file for file in promised if not file.exists()]
    if missing:
        raise GdmError(
            f"{len(missing)} of {counted(promised, 'file')} that were written are not there at the end",
            file=missing[0],
            found=f"missing: {listed(file.name for file in missing)}",
            expected=f"{counted(promised, 'file')}; others may have been removed while the command ran",
            remedy="run the command again, and leave its folder alone meanwhile",
        )
