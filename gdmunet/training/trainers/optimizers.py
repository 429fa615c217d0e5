"""AdamW in the form that is best on a device, and its state from a training on any device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_FORM = ("foreach", "fused")


def adamw(parameters: Iterable[Any], device: torch.device, **options: Any) -> torch.optim.AdamW:
    """AdamW of parameters on that device, or of groups of them; on a GPU one kernel updates many weights.

    Elsewhere PyTorch's own choice stays, so that results on a CPU are those of earlier versions.
    """
    return torch.optim.AdamW(parameters, fused=True if device.type == "cuda" else None, **options)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Continue from a saved state in this optimiser's own form: the state may come from another device or version."""
    groups = [
        group | {name: own[name] for name in _FORM if name in own}
        for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict(saved | {"param_groups": groups})
