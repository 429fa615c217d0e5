"""Part 1: versions, and the ceilings of this machine."""

from __future__ import annotations

import os
import platform

import numpy as np
import psutil
import torch

import gdmunet
from gpu_parts.setting import Setting


def run(setting: Setting) -> None:
    """Versions, a square product in bfloat16, a copy on the device and one from the host."""
    setting.attempt("versions", lambda: versions(setting))
    setting.attempt("product", lambda: product(setting))
    setting.attempt("copy", lambda: copies(setting))


def versions(setting: Setting) -> dict[str, object]:
    """What this machine is."""
    found: dict[str, object] = {
        "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
        "gdmunet": gdmunet.__version__, "cores": len(os.sched_getaffinity(0)),
        "memory_gb": psutil.virtual_memory().total / 1e9, "dry": setting.dry,
    }  # fmt: skip
    if setting.device.type == "cuda":
        properties = torch.cuda.get_device_properties(setting.device)
        found |= {
            "gpu": properties.name, "gpu_memory_gb": properties.total_memory / 1e9,
            "free_gb": torch.cuda.mem_get_info(setting.device)[0] / 1e9, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        }  # fmt: skip
    return found


def product(setting: Setting) -> dict[str, object]:
    """TFLOP/s of a square product of random numbers, in bfloat16 and in float32 of 24 bits."""
    edge = setting.pick(8192, 256)
    found: dict[str, object] = {"edge": edge}
    for dtype in (torch.bfloat16, torch.float32):
        one, two = (torch.randn(edge, edge, device=setting.device).to(dtype) for _ in range(2))
        seconds = setting.seconds(lambda one=one, two=two: one @ two, 10)
        found[f"{str(dtype).removeprefix('torch.')}_tflops"] = 2 * edge**3 / seconds / 1e12
    return found


def copies(setting: Setting) -> dict[str, object]:
    """GB/s on the device (bytes read and written), and from page-locked memory to it."""
    values = torch.randn(setting.pick(1 << 30, 1 << 20), device=setting.device)
    other = torch.empty_like(values)
    on_device = setting.seconds(lambda: other.copy_(values), 10)
    host = torch.empty(setting.pick(1 << 28, 1 << 18))
    host = host.pin_memory() if setting.device.type == "cuda" else host
    upload = setting.seconds(lambda: other[: len(host)].copy_(host, non_blocking=True), 10)
    return {"device_gb_s": 2 * values.nbytes / on_device / 1e9, "upload_gb_s": host.nbytes / upload / 1e9}
