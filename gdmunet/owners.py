"""The process that owns a claim or a temporary name, and whether it still lives, as far as this process can tell."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gdmunet.ranges import within

Verdict = Literal["alive", "dead", "elsewhere"]

TEMPORARY = ".tmp-"
# What another machine left is nobody's once nothing of it has changed for this time.
_DEAD_AFTER_SECONDS = 86_400.0
_LONGEST_HOST, _LONGEST_TAIL = 40, 100
_NAME = re.compile(
    re.escape(TEMPORARY) + r"(?P<host>.+)-(?P<pid>\d+)-(?P<started>\d+)-(?P<boot>[0-9a-f]{8})-[0-9a-f]{8}-"
)


@dataclass(frozen=True)
class Owner:
    """A process, known beyond its machine and its life.

    Attributes
    ----------
    host
        Name of the machine.
    boot
        The machine's present run, and the space of its process numbers (a container has its own); empty where the
        system has no name for it.
    pid, started
        Number of the process, and its start in hundredths of a second: a number is used again.
    """

    host: str
    boot: str
    pid: int
    started: int

    def __post_init__(self) -> None:
        within("the number of a process", self.pid, 1, (1 << 31) - 1)

    @classmethod
    def present(cls) -> Owner:
        """This process."""
        return _present(os.getpid())

    def verdict(self) -> Verdict:
        """Whether the process lives; ``elsewhere`` if this machine cannot see it."""
        here = Owner.present()
        if (self.host, self.boot) != (here.host, here.boot):
            return "elsewhere"
        started = _started(self.pid)
        return "alive" if started is not None and abs(started - self.started) <= 100 else "dead"


def temporary_beside(destination: Path) -> Path:
    """A new name beside `destination` that carries this process and keeps the destination's suffixes."""
    owner = Owner.present()
    host = re.sub(r"[^\w.-]", "_", owner.host)[:_LONGEST_HOST] or "host"
    mark = f"{host}-{owner.pid}-{owner.started}-{_short(owner.boot)}-{uuid.uuid4().hex[:8]}"
    tail = os.fsdecode(os.fsencode(destination.name)[-_LONGEST_TAIL:])
    return destination.with_name(f"{TEMPORARY}{mark}-{tail}")


def sweep(folder: Path) -> list[Path]:
    """Remove the temporary files and folders in `folder` that dead processes left; gives them.

    Those of a living process stay, and so do those of another machine until nothing of them has changed for a day.
    """
    removed = []
    for path in sorted(Path(folder).glob(f"{TEMPORARY}*")):
        if not _is_dead(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # of another user, on a disk that is read alone
                path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _is_dead(path: Path) -> bool:
    match = _NAME.match(path.name)
    if match is not None:
        here = Owner.present()
        if match["boot"] == _short(here.boot) and match["host"] == re.sub(r"[^\w.-]", "_", here.host)[:_LONGEST_HOST]:
            return Owner(here.host, here.boot, int(match["pid"]), int(match["started"])).verdict() == "dead"
    try:
        return time.time() - max(_changes(path)) > _DEAD_AFTER_SECONDS
    except OSError:  # it is going at this moment: its owner lives
        return False


def _changes(path: Path) -> Iterator[float]:
    yield path.lstat().st_mtime
    if path.is_dir() and not path.is_symlink():
        for inside in path.rglob("*"):
            yield inside.lstat().st_mtime


def _short(boot: str) -> str:
    return hashlib.sha256(boot.encode()).hexdigest()[:8]


@functools.lru_cache(maxsize=1)
def _present(pid: int) -> Owner:
    return Owner(platform.node(), _boot(), pid, _started(pid) or 0)


def _boot() -> str:
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{name}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Start of a process in hundredths of a second; None if there is none of that number, or it has ended.

    Linux counts from the machine's start, so that setting the clock changes nothing.
    """
    if Path("/proc/self/stat").is_file():
        try:
            # The name of the program may hold anything, also brackets.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    import psutil  # 15 ms, which --help need not pay

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(100 * process.create_time())
    except psutil.Error:
        return None
