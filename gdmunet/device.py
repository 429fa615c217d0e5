"""Computing devices: those that are available, and their precisions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

import psutil
import torch

from gdmunet.errors import GdmError
from gdmunet.quantities import counted

Precision = Literal["float32", "bfloat16", "float16"]
# Waiting programs for each core from which on measured times say more about the others.
_BUSY = 1.5


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; None: a GPU if there is one, else the CPU.

    Raises
    ------
    GdmError
        A device that is not there, or of a kind that nothing here was tested on: Apple's GPUs (MPS) have no float64,
        in which gradients are coordinated and drift fields are checked.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    if name is None:
        name = "cuda" if available["cuda"] else "cpu"
    device = torch.device(name)
    if device.type not in available:
        raise GdmError(
            f"devices of the kind {device.type} are not supported",
            expected=", ".join(available),
            remedy="take -device cpu; training wants an NVIDIA GPU",
        )
    if not available[device.type]:
        raise GdmError(
            f"device {device} is not available",
            expected=", ".join(kind for kind, there in available.items() if there),
            remedy="choose another with -device, or install the PyTorch build for your GPU",
        )
    return device


def gpu_identities() -> tuple[str, ...]:
    """Identities of the GPUs that this process sees, in the order of their numbers; the same in every process."""
    properties = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return tuple(str(getattr(one, "uuid", number)) for number, one in enumerate(properties))


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def other_work() -> str:
    """In words that other programs keep the cores busy, such as ``load 15 on 2 cores``; "" if a core is left."""
    load, count = psutil.getloadavg()[0], usable_cores()
    return f"load {load:.0f} on {counted(count, 'core')}" if load > _BUSY * count else ""


def default_precision(device: torch.device) -> Precision:
    """The fastest precision that the device computes well in: bfloat16 where a GPU has it, else float16; float32."""
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def mixed_precision(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Autocast of that precision; nothing for float32."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside autocast: operations run in the types of their tensors."""
    # Tensors without data, on which memory is counted, have no autocast to switch off.
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Inside, float32 products and convolutions on a GPU have float32's 24 bits, not the 11 of TF32.

    PyTorch lets cuDNN's convolutions use TF32 unless told otherwise. Mixed precision loses nothing by it: its
    convolutions run in half precision. Afterwards everything is as before.
    """
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
