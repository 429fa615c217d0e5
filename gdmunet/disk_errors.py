"""Why the system refused to write, and what helps."""

from __future__ import annotations

import errno
from pathlib import Path

from gdmunet.errors import GdmError

_ANOTHER_FOLDER = "choose another folder"
_REMEDIES = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space, or ask for a larger quota",
    errno.EFBIG: "ask for a larger limit of a file's size (ulimit -f), or choose another disk",
    errno.EACCES: f"ask for permission to write there, or {_ANOTHER_FOLDER}",
    errno.EPERM: f"ask for permission to write there, or {_ANOTHER_FOLDER}",
    errno.EROFS: f"{_ANOTHER_FOLDER}: this file system is read-only",
    errno.ENOTDIR: f"{_ANOTHER_FOLDER}: a part of this path is a file",
    errno.EEXIST: f"{_ANOTHER_FOLDER}: there is a file of this name",
    errno.EISDIR: "choose another file name: there is a folder of this name",
    errno.ENOENT: f"{_ANOTHER_FOLDER}: none can be made there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EXDEV: "copy instead of linking (--link copy): hard links need one file system",
    errno.EIO: "check the disk, and the network that leads to it",
    errno.ESTALE: "check the network disk, which was taken away or mounted anew",
}
_ANY_REASON = "free disk space, or check the path and the folder's permissions"


def refuses_writing(error: OSError) -> bool:
    """Whether the system refused for a reason that is never a fault of gdmunet: no space, no permission."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)


def writing_error(problem: str, file: str | Path | None, error: OSError) -> GdmError:
    """The error for a file or folder that cannot be written, with a remedy for its reason.

    Parameters
    ----------
    problem
        Failed work, such as ``cannot write plans.json``; the reason of the system is added.
    """
    remedy = _REMEDIES.get(error.errno or 0, _ANY_REASON)
    return GdmError(f"{problem}: {error.strerror or error}", file=file, remedy=f"{remedy}, then run the command again")
