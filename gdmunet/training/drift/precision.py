"""True float32, in which all of the drift is computed, whatever precision the networks have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """True float32: differences of near samples drown in the round-off of TF32 and bfloat16."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        # Tensors without data, on which memory is counted, have no autocast to switch off.
        with nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)
