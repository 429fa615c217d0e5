"""Computing devices: those that are available, their precisions and their memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import psutil
import torch

from gdmunet.errors import GdmError

Precision = Literal["float32", "bfloat16", "float16"]


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; None: a GPU if there is one, else the CPU. One that is not there is an error."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name is None:
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    device = torch.device(name)
    if not available.get(device.type, False):
        raise GdmError(
            f"device {device} is not available",
            expected=", ".join(kind for kind, there in available.items() if there),
            remedy="choose another with -device, or install the PyTorch build for your GPU",
        )
    return device


def default_precision(device: torch.device) -> Precision:
    """The fastest precision that the device computes well in: bfloat16 where a GPU has it, else float16; float32."""
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def free_memory_gb(device: torch.device) -> float | None:
    """Free memory of a GPU in GB (1e9 bytes); None for other devices."""
    return torch.cuda.mem_get_info(device)[0] / 1e9 if device.type == "cuda" else None


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
