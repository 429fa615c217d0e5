"""The last act of a command: the files that it promised are counted.

The only writer of files (`atomic.py`) promises each file that it has put into its place, takes back what a command
removes or moves on purpose, and the command counts what is left when all its work is done. Files that other processes
wrote for it (workers, ranks) it promises by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.quantities import counted, listed

# One record for each command that is under way: a demonstration runs commands inside a command.
_RECORDS: list[dict[Path, None]] = []


@contextlib.contextmanager
def promises_kept() -> Iterator[None]:
    """Inside, what is written is remembered; at the end, unless something failed before, all of it is counted.

    Raises
    ------
    GdmError
        Names the files that are not there: somebody removed the folder, or a disk lost them.
    """
    record: dict[Path, None] = {}
    _RECORDS.append(record)
    try:
        yield
    finally:
        _RECORDS[:] = [other for other in _RECORDS if other is not record]
    _count(list(record))


def check_promised(files: Iterable[Path]) -> None:
    """Count files now, and once more at the end of the command.

    Raises
    ------
    GdmError
        Names those that are not there.
    """
    promised = [Path(file) for file in files]
    promise(promised)
    _count(promised)


def promise(files: Iterable[Path]) -> None:
    """Remember files that lie in their places."""
    for file in files:
        for record in _RECORDS:
            record[Path(file)] = None


def take_back(path: Path) -> list[Path]:
    """Forget a file, or all files of a folder, which the command itself removes or moves; gives those that it knew."""
    known: dict[Path, None] = {}
    for record in _RECORDS:
        gone = [file for file in record if file == path or path in file.parents]
        for file in gone:
            del record[file]
        known |= dict.fromkeys(gone)
    return list(known)


def _count(promised: list[Path]) -> None:
    missing = [file for file in promised if not file.exists()]
    if missing:
        raise GdmError(
            f"{len(missing)} of {counted(promised, 'file')} that were written are not there at the end",
            file=missing[0],
            found=f"missing: {listed(file.name for file in missing)}",
            expected=f"{counted(promised, 'file')}; others may have been removed while the command ran",
            remedy="run the command again, and leave its folder alone meanwhile",
        )
