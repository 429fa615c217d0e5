"""What the training device can do and what it holds."""

from __future__ import annotations

import functools
import os

import psutil
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gdmunet.errors import GdmError


def find_device(name: str | None) -> torch.device:
    """The device of that name; None: a GPU if there is one, else the CPU."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = name.split(":")[0]
    if not available.get(kind, False):
        raise GdmError(
            f"device {name} is not available",
            expected=", ".join(key for key, there in available.items() if there),
            remedy="choose another with -device, or install the PyTorch build for your GPU",
        )
    return torch.device(name)


def resolve_precision(precision: str, device_type: str) -> str:
    """``auto``: bfloat16 on GPUs that have it, float16 on other GPUs, float32 elsewhere."""
    if precision != "auto":
        return precision
    if device_type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def free_memory_gb(device: torch.device) -> float | None:
    """Free memory of a GPU in GB (1e9 bytes); None for other devices."""
    return torch.cuda.mem_get_info(device)[0] / 1e9 if device.type == "cuda" else None


def peak_memory_mb(device: torch.device) -> float:
    """Largest allocation so far on a GPU, else the process's resident memory now, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return psutil.Process().memory_info().rss / 1e6


def default_loader_workers(device: torch.device, processes: int = 1) -> int:
    """Background processes that make patches: many for a GPU, one where training itself needs the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(12, cores // processes - 1)) if device.type == "cuda" else 1


def checkpoint_stages(network: nn.Module) -> None:
    """Recompute each stage of the U-Net in the backward pass instead of keeping its activations."""
    unet: nn.Module = network.unet if isinstance(network.unet, nn.Module) else network
    for name, module in unet.named_modules():
        parts = name.split(".")
        if len(parts) == 3 and parts[1] == "stages":
            module.forward = functools.partial(checkpoint, module.forward, use_reentrant=False)
