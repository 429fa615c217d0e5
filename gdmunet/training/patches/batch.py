"""The input of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Batch:
    """Patches of several cases in network units.

    Attributes
    ----------
    condition
        (B, C, z, y, x), or (B, C, y, x) in 2D; float32.
    target
        (B, 1, ...) float32.
    mask
        (B, 1, ...) float32, 1 inside the body.
    identifiers
        Case of each patch.
    context
        Values that the hook that made a prediction of this batch hands to the losses; empty before.
    """

    condition: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    identifiers: tuple[str, ...]
    context: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`; copies overlap with computing where the memory is pinned."""
        condition, target, mask = (
            tensor.to(device, non_blocking=True) for tensor in (self.condition, self.target, self.mask)
        )
        return replace(self, condition=condition, target=target, mask=mask)

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> Batch:
        """From the dictionary of a loader."""
        condition, target, mask = (torch.from_numpy(arrays[name]) for name in ("condition", "target", "mask"))
        return cls(condition, target, mask, arrays["identifiers"])

    def pinned(self) -> Batch:
        """In page-locked memory, from which a GPU copies while it computes."""
        return replace(
            self,
            condition=self.condition.pin_memory(),
            target=self.target.pin_memory(),
            mask=self.mask.pin_memory(),
        )
