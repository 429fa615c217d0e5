"""Files that are either the old one or the whole new one, and the errors of folders that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from gdmunet.errors import GdmError

_ANOTHER_FOLDER = "choose another folder"
_REMEDIES = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space, or ask for a larger quota",
    errno.EACCES: f"ask for permission to write there, or {_ANOTHER_FOLDER}",
    errno.EPERM: f"ask for permission to write there, or {_ANOTHER_FOLDER}",
    errno.EROFS: f"{_ANOTHER_FOLDER}: this file system is read-only",
    errno.ENOTDIR: f"{_ANOTHER_FOLDER}: a part of this path is a file",
    errno.EEXIST: f"{_ANOTHER_FOLDER}: there is a file of this name",
    errno.EISDIR: "choose another file name: there is a folder of this name",
    errno.ENOENT: f"{_ANOTHER_FOLDER}: none can be made there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EXDEV: "copy instead of linking (--link copy): hard links need one file system",
}
_ANY_REASON = "free disk space, or check the path and the folder's permissions"


def refuses_writing(error: OSError) -> bool:
    """Whether the system refused for a reason that is never a fault of gdmunet: no space, no permission."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def writing_error(problem: str, file: str | Path | None, error: OSError) -> GdmError:
    """The error for a file or folder that cannot be written, with a remedy for its reason.

    Parameters
    ----------
    problem
        Failed work, such as ``cannot write plans.json``; the reason of the system is added.
    """
    remedy = _REMEDIES.get(error.errno or 0, _ANY_REASON)
    return GdmError(f"{problem}: {error.strerror or error}", file=file, remedy=f"{remedy}, then run the command again")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there already is fine.

    Raises
    ------
    GdmError
        A file is in the way, permission is missing, or the file system is read-only or full.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error("cannot make the folder", folder, error) from error


@contextlib.contextmanager
def atomic_path(destination: Path) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; on success flush it to disk and rename it into place.

    The temporary name keeps the suffixes of `destination`, so writers that choose a format by the file's ending
    work. If the body raises, the temporary file is removed and `destination` stays as it was.

    Raises
    ------
    GdmError
        The disk is full, or the folder cannot be made or written to.
    """
    destination = Path(destination)
    temporary = destination.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{destination.name}")
    make_folder(destination.parent)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(destination)
    except OSError as error:
        raise writing_error(f"cannot write {destination.name}", destination, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(destination: Path, text: str) -> None:
    """Write `text` (UTF-8) to `destination` atomically."""
    with atomic_path(destination) as temporary:
        temporary.write_text(text, encoding="utf-8")
