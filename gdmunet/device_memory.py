"""Memory of computing devices: free and used bytes, the part that one step may use, and errors when it runs out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from gdmunet.errors import CommandLine, GdmError
from gdmunet.out_of_memory import is_out_of_memory
from gdmunet.quantities import memory_size

USABLE_SHARE = 0.9
"""Share of a card's memory that counted tensors may take: the allocator rounds and leaves gaps."""
RESERVE = 1.5e9
"""Bytes of a card that counted tensors leave at least: context of the driver, libraries, workspaces of kernels."""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a device in bytes.

    Attributes
    ----------
    free
        Bytes that this process may use in all: those that nobody holds, and those that it holds itself.
    total
        All bytes of the device.
    peak
        Most bytes that tensors of this process have taken so far.
    """

    free: int
    total: int
    peak: int = 0

    @property
    def usable(self) -> int:
        """Bytes that the counted tensors of one step may take."""
        return usable_bytes(self.free)


def usable_bytes(free: float) -> int:
    """Bytes that counted tensors may take of a card with `free` bytes: min(0.9 x free, free - 1.5 GB)."""
    return max(0, int(min(USABLE_SHARE * free, free - RESERVE)))


def device_memory(device: torch.device) -> DeviceMemory:
    """Memory of a GPU, else of the host."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device)
        return DeviceMemory(free + held, total, torch.cuda.max_memory_allocated(device))
    host = psutil.virtual_memory()
    held = psutil.Process().memory_info().rss
    return DeviceMemory(host.available + held, host.total, round(1e6 * peak_memory_mb(device)))


@dataclass(frozen=True)
class MemoryAdvice:
    """What a user may do about work that does not fit a device's memory.

    Attributes
    ----------
    work
        The work, as in ``while training``.
    predicted
        Predicted peak in bytes; None if nobody has predicted it.
    remedy, command
        Remedy in prose and as a command, for the `GdmError`.
    """

    work: str
    predicted: int | None
    remedy: str
    command: CommandLine | None = None


@contextlib.contextmanager
def explained_memory(device: torch.device, advise: Callable[[], MemoryAdvice]) -> Iterator[None]:
    """Inside, a device that runs out of memory raises a `GdmError` with predicted, free and peak memory and a remedy.

    `advise` is asked only then.

    Raises
    ------
    GdmError
        Instead of the device's own error; others pass.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        advice = advise()
        raise memory_error(f"{_name(device)} ran out of memory while {advice.work}", device, advice) from error


def memory_error(
    problem: str, device: torch.device, advice: MemoryAdvice, memory: DeviceMemory | None = None
) -> GdmError:
    """The error of work that has not, or would not have, enough memory; `memory`: the device's, if known already."""
    memory = memory or device_memory(device)
    found = f"{memory_size(memory.free)} free of {memory_size(memory.total)}"
    if memory.peak:
        found += f", peak so far {memory_size(memory.peak)}"
    expected = None if advice.predicted is None else f"{memory_size(advice.predicted)} as predicted, and a reserve"
    return GdmError(problem, found=found, expected=expected, remedy=advice.remedy, command=advice.command)


def peak_memory_mb(device: torch.device) -> float:
    """Largest allocation so far on a GPU, else the process's largest resident memory so far, in MB of 1e6 bytes.

    Linux is asked for the high-water mark of this program: ``ru_maxrss`` starts at the parent's.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e6
    if (status := Path("/proc/self/status")).is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource  # not on Windows

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1e6 if sys.platform == "darwin" else largest * 1024 / 1e6


def _name(device: torch.device) -> str:
    return "the computer" if device.type == "cpu" else f"the GPU {device}"
