"""CPU seconds and peak memory of a command and of everything that it starts."""

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux
_SAMPLING_S = 0.05


@dataclass(frozen=True)
class Used:
    """Seconds of processor time and by the clock, and the peak of the summed resident memory in MB of 1e6 bytes."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Used:
    """Run a command to its end; one that fails ends the benchmark with its output.

    Processes that outlive their parent are given to this one (Linux), so that their time counts as well.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    before, started = _children_s(), time.monotonic()
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    memory, ended = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, memory, ended), daemon=True)
    watch.start()
    output = process.communicate()[0]
    wall = time.monotonic() - started
    ended.set()
    watch.join()
    _reap()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output[-4000:]}")
    return Used(_children_s() - before, wall, memory[0])


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(root: int, memory: list[float], ended: threading.Event) -> None:
    while not ended.wait(_SAMPLING_S):
        memory[0] = max(memory[0], _resident_mb(root))


def _resident_mb(root: int) -> float:
    """Of a process and everything under it; one that ends in between counts as nothing."""
    try:
        first = psutil.Process(root)
        processes = [first, *first.children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0.0
    for process in processes:
        try:
            total += process.memory_info().rss / 1e6
        except psutil.Error:
            continue
    return total


def _reap() -> None:
    """Wait for what was given to this process."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
