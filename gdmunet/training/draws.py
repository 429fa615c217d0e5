"""The random numbers of a step: a function of its seed alone, drawn where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Draws:
    """Two sources of random numbers with one seed; on a CPU they are the same one.

    Attributes
    ----------
    tensors
        Source of tensors, on the device that computes with them, so that none of them is copied there; on the CPU for
        tensors without data. None: PyTorch's own of the CPU.
    decisions
        Source of the few numbers that the host decides by, on the CPU: to ask the device for them would be to wait.
    """

    tensors: torch.Generator | None = None
    decisions: torch.Generator | None = None

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> Draws:
        """Draws for tensors of that device."""
        host = torch.Generator().manual_seed(seed)
        if device.type in ("cpu", "meta"):
            return cls(host, host)
        return cls(torch.Generator(device).manual_seed(seed), host)

    def uniform(self, shape: Sequence[int], device: torch.device) -> torch.Tensor:
        """Numbers from 0 to below 1."""
        return torch.rand(*shape, generator=self.tensors, device=self._device).to(device)

    def normal(self, shape: Sequence[int], device: torch.device) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.tensors, device=self._device).to(device)

    def permutation(self, count: int, device: torch.device) -> torch.Tensor:
        """The numbers below `count` (count,) in random order."""
        return torch.randperm(count, generator=self.tensors, device=self._device).to(device)

    def below(self, most: int) -> int:
        """A whole number from 0 to below `most`, for the host."""
        return int(torch.randint(most, (), generator=self.decisions))

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.tensors is None else self.tensors.device
