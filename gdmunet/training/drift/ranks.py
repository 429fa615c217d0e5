"""One drift problem over several processes: gathered samples, sums, the column softmax."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from gdmunet.training import distributed


@dataclass(frozen=True)
class RankGroup:
    """All training processes if `active`, else this one alone; every method is then the identity.

    All processes must call the same methods in the same order.
    """

    active: bool

    @classmethod
    def of(cls, across_ranks: bool) -> RankGroup:
        """The group; active where asked for and where there is more than one process."""
        return cls(across_ranks and distributed.world_size() > 1)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over the processes."""
        if not self.active:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total

    def logsumexp2(self, value: torch.Tensor) -> torch.Tensor:
        """log2 of the sum of 2^value over the processes."""
        if not self.active:
            return value
        top = value.clone()
        dist.all_reduce(top, op=dist.ReduceOp.MAX)
        return self.sum((value - top).exp2_()).log2_() + top

    @property
    def size(self) -> int:
        """Number of processes."""
        return distributed.world_size() if self.active else 1

    def first(self, count: int, device: torch.device) -> int:
        """Where this process's part of `count` samples starts in what `gather` returns."""
        return sum(self.counts(count, device)[: distributed.rank()]) if self.active else 0

    def counts(self, count: int, device: torch.device) -> list[int]:
        """This number of every process, in their order."""
        if not self.active:
            return [count]
        mine = torch.tensor([count], device=device)
        every = [torch.empty_like(mine) for _ in range(distributed.world_size())]
        dist.all_gather(every, mine)
        return [int(value) for value in torch.cat(every).tolist()]

    def gather(self, samples: torch.Tensor) -> torch.Tensor:
        """(B, n, ...) of every process one after the other in dimension 1; n may differ between them."""
        if not self.active:
            return samples
        counts = self.counts(samples.shape[1], samples.device)
        # all_gather wants equal shapes.
        padded = samples.new_zeros((samples.shape[0], max(counts), *samples.shape[2:]))
        padded[:, : samples.shape[1]] = samples
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded)
        return torch.cat([part[:, :count] for part, count in zip(every, counts, strict=True)], dim=1)
