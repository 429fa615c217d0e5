"""GPUs, cores and memory of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from gdmunet.device import other_work, usable_cores
from gdmunet.quantities import counted, memory_size
from gdmunet.workflows.doctor.finding import Finding

_AREA = "machine"
_SHARED_MEMORY = Path("/dev/shm")
# Below these bytes of memory, a whole CT and its prediction do not fit beside Python and PyTorch.
_LITTLE_MEMORY = 6e9
# What the loaders of a GPU training hand over in shared memory; Docker gives 64 MB unless told otherwise.
_LITTLE_SHARED = 1e9
_FEW_CORES = 4


@dataclass(frozen=True)
class Driver:
    """What NVIDIA's driver says: its version and the names of the GPUs."""

    version: str
    gpus: tuple[str, ...]


def machine_findings() -> list[Finding]:
    """GPUs and their driver, cores, memory, shared memory."""
    return [
        *gpu_findings(torch.version.cuda, torch.cuda.is_available(), nvidia_driver()),
        *_each_gpu(),
        cores(usable_cores(), torch.get_num_threads(), other_work()),
        *memory_findings(),
    ]


def nvidia_driver() -> Driver | None:
    """The driver, asked by nvidia-smi; None: there is none, or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    question = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(", ", 1) for line in answer.splitlines() if ", " in line]
    return Driver(rows[0][0], tuple(row[1] for row in rows)) if rows else None


def gpu_findings(cuda: str | None, available: bool, driver: Driver | None) -> list[Finding]:
    """Whether PyTorch's build and the driver find each other.

    Parameters
    ----------
    cuda
        CUDA version of PyTorch's build; None: it was built for CPUs.
    available
        Whether PyTorch can use a GPU.
    """
    build = f"PyTorch built for CUDA {cuda}" if cuda else "PyTorch built for CPUs"
    there = f"driver {driver.version}, {', '.join(driver.gpus)}" if driver else "no NVIDIA driver"
    if available:
        return [Finding(_AREA, "GPU build", f"{build}; {there}")]
    if driver is None:
        advice = "training on a CPU: planning takes a small network and one day; --hours gives another time"
        return [Finding(_AREA, "GPU", f"none; {build}, {there}", "note", advice)]
    reason = (
        "the driver may be older than that CUDA version needs: update it, or install an older build"
        if cuda
        else "install the build for your CUDA version: https://pytorch.org/get-started/locally/"
    )
    return [Finding(_AREA, "GPU build", f"{build}, but {there}", "bad", reason)]


def cores(usable: int, threads: int, busy: str = "") -> Finding:
    """Cores that this process may use, threads of one operation, and in words that other programs use the cores."""
    found = f"{counted(usable, 'usable core')} of {os.cpu_count()}, {counted(threads, 'thread')} of PyTorch"
    if busy:
        advice = "other programs use the cores: times that are measured now, also by planning, are too long"
        return Finding(_AREA, "cores", f"{found}; {busy}", "note", advice)
    if usable >= _FEW_CORES:
        return Finding(_AREA, "cores", found)
    return Finding(_AREA, "cores", found, "note", "a GPU may wait for patches; about 12 cores keep one busy")


def memory_findings(shared: Path = _SHARED_MEMORY) -> list[Finding]:
    """The host's memory, and shared memory if the system has a folder for it."""
    memory = psutil.virtual_memory()
    text = f"{memory_size(memory.available)} free of {memory_size(memory.total)}"
    little = memory.available < _LITTLE_MEMORY
    advice = "few workers: -np 1; close other programs" if little else ""
    findings = [Finding(_AREA, "memory", text, "note" if little else "good", advice)]
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        tight = free < _LITTLE_SHARED
        advice = "loaders of a GPU training fail there; in Docker: docker run --shm-size=8g" if tight else ""
        findings.append(Finding(_AREA, str(shared), f"{memory_size(free)} free", "note" if tight else "good", advice))
    return findings


def _each_gpu() -> list[Finding]:
    findings = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(number)
        precise = torch.cuda.get_device_properties(number).major >= 8
        found = f"{torch.cuda.get_device_name(number)}, {memory_size(free)} free of {memory_size(total)}, " + (
            "bfloat16" if precise else "float16 (no bfloat16)"
        )
        taken = free < 0.5 * total
        advice = "another program holds much of it: see nvidia-smi" if taken else ""
        findings.append(Finding(_AREA, f"GPU {number}", found, "note" if taken else "good", advice))
    return findings
