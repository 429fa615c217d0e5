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

    def to_message(self) -> dict[str, Any]:
        """As a dictionary of arrays for a pipe, the mask in bytes."""
        arrays = {"condition": self.condition.numpy(), "target": self.target.numpy()}
        return arrays | {"mask": self.mask.byte().numpy(), "identifiers": self.identifiers}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Batch:
        """The inverse of `to_message`."""
        condition, target, mask = (torch.from_numpy(message[name]) for name in ("condition", "target", "mask"))
        return cls(condition, target, mask.float(), message["identifiers"])

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        condition, target, mask = (tensor.to(device) for tensor in (self.condition, self.target, self.mask))
        return replace(self, condition=condition, target=target, mask=mask)
