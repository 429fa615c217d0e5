"""Faults inside a process: at its n-th file event it is killed, or the disk refuses, or a folder is gone.

An audit hook sees what Python does with files; events of the system's libraries below it (a volume written by ITK)
lie between two of these.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import gdmunet.atomic

# Events that change the disk; the first argument of each is a path, of the second list two paths are.
CHANGES = {"os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "shutil.rmtree", "os.chmod"}
MOVES = {"os.rename", "os.link", "os.symlink", "shutil.copyfile", "shutil.move"}
KINDS = ("kill", "torn", "full", "read-only", "removed", "term")


class Events:
    """Counts the file events below a folder, and calls `act` with the number and the path of each."""

    def __init__(self, folder: Path, act: Callable[[int, str, str], None]) -> None:
        self.folder, self.act, self.count, self._busy = str(folder), act, 0, False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self._busy or not (event == "open" or event in CHANGES or event in MOVES):
            return
        if event == "open" and not _writes(arguments):
            return
        paths = [str(one) for one in arguments[: 2 if event in MOVES else 1] if isinstance(one, str | os.PathLike)]
        if not any(path.startswith(self.folder) for path in paths):
            return
        self.count += 1
        self._busy = True
        try:
            self.act(self.count, event, paths[-1])
        finally:
            self._busy = False


def _writes(arguments: tuple) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return True
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def inject(kind: str, number: int, folder: Path, outputs: list[Path]) -> None:
    """Let this process meet a fault at its event of that number below `folder`.

    Parameters
    ----------
    kind
        ``kill`` (SIGKILL), ``term`` (SIGTERM), ``full`` and ``read-only`` (this event and all later ones are refused),
        ``removed`` (`outputs` are deleted), ``torn`` (half of the file that is synced is lost, with the process).
    """
    refusal = {"full": errno.ENOSPC, "read-only": errno.EROFS}.get(kind)

    def act(count: int, event: str, path: str) -> None:
        if refusal is not None:
            if count >= number and event not in ("os.remove", "os.rmdir", "shutil.rmtree"):
                raise OSError(refusal, os.strerror(refusal), path)
            return
        if count != number:
            return
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif kind == "removed":
            for output in outputs:
                if output.is_file():
                    output.unlink()
                else:
                    shutil.rmtree(output, ignore_errors=True)

    if kind == "torn":
        _tear(number)
    else:
        Events(folder, act)


def _tear(number: int) -> None:
    synced = [0]
    sync = gdmunet.atomic._sync_file

    def torn(path: Path) -> None:
        synced[0] += 1
        if synced[0] == number:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    gdmunet.atomic._sync_file = torn
