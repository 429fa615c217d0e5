"""How long a run waits for a process or a thread that does nothing: a stopped one, or one whose disk is gone.

Work may take as long as it needs while it uses the processor. Time in which this process was stopped itself (a batch
system suspends a job) does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import psutil

from gdmunet.errors import GdmError

DEFAULT_SECONDS = 600.0
# Between two looks.
LOOK_SECONDS = 1.0
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_DISK_SLEEP)
_LIMIT = [DEFAULT_SECONDS]

Signs = Callable[[], float | None]


def wait_limit() -> float:
    """Seconds without a sign of life after which a run ends."""
    return _LIMIT[0]


def set_wait_limit(seconds: float) -> None:
    """Set the limit of this process and of the waits that it begins.

    Raises
    ------
    GdmError
        A limit that is not positive.
    """
    if not seconds > 0:
        raise GdmError(
            "the limit of a wait is not positive",
            found=f"{seconds:g} s",
            expected="seconds above 0",
            remedy="set GDM_WAIT_LIMIT to a number of seconds, or to nothing",
        )
    _LIMIT[0] = seconds


class Patience:
    """Seconds in which each of several workers has used no processor time, by key."""

    def __init__(self, limit: float | None = None) -> None:
        self.limit = wait_limit() if limit is None else limit
        self._last: dict[int, float | None] = {}
        self._idle: dict[int, float] = {}
        self._looked = time.monotonic()

    def lost(self, workers: Iterable[tuple[int, Signs]]) -> list[int]:
        """Look at the workers that are waited for; gives the keys of those whose limit is over."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * LOOK_SECONDS), now
        lost = []
        for key, signs in workers:
            seen = signs()
            if key not in self._last or seen is None or seen != self._last[key]:
                self._idle[key] = 0.0
            else:
                self._idle[key] += passed
            self._last[key] = seen
            if self._idle[key] >= self.limit:
                lost.append(key)
        return lost

    def forget(self, key: int) -> None:
        """Begin anew for a worker that has been given other work."""
        self._last.pop(key, None)


def processor_time(pid: int, tree: bool = False) -> float | None:
    """Processor seconds that a process (and its children, with `tree`) has used; None if it is gone."""
    try:
        process = psutil.Process(pid)
        used = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True) if tree)]
    except psutil.Error:
        return None
    return sum(float(times.user + times.system) for times in used)


def thread_time(thread: int | None) -> float | None:
    """Processor seconds of a thread of this process by its number of the system; 0 before it has one."""
    if thread is None:
        return 0.0
    for one in psutil.Process().threads():
        if one.id == thread:
            return float(one.user_time) + float(one.system_time)
    return None


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process, or a disk that does not answer holds it."""
    try:
        return psutil.Process(pid).status() in _STOPPED
    except psutil.Error:
        return False


def stuck(problem: str, *, case: str | None, pid: int, limit: float) -> GdmError:
    """The error of a worker that has done nothing for too long."""
    how = "it is stopped, or waits for a disk" if is_stopped(pid) else "it waits for something"
    return GdmError(
        problem,
        case=case,
        found=f"process {pid} has used no processor time for {limit:g} s: {how}",
        remedy="check that nobody stopped it (kill -STOP) and that the disks and network disks answer, then run the "
        "command again; GDM_WAIT_LIMIT=SECONDS waits longer",
    )
