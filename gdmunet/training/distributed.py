"""Several processes that train one network: the number of this one, and sums over all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of training processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def barrier() -> None:
    """Wait for every process."""
    if dist.is_initialized():
        dist.barrier()


def mean_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Mean of a detached tensor over all processes."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Sum of a detached tensor over all processes; the same bits on every one."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def gather_counts(counts: Sequence[int], device: torch.device) -> list[list[int]]:
    """The counts of every process, in their order; all must ask. Nothing is sent where there is one alone."""
    if world_size() == 1:
        return [list(counts)]
    mine = torch.tensor(counts, device=device)
    every = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(every, mine)
    gathered: list[list[int]] = torch.stack(every).tolist()
    return gathered


def any_rank(flag: bool, device: torch.device) -> bool:
    """True where any process says so; all processes must ask."""
    if world_size() == 1:
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def join(rank_number: int, size: int, device_kind: str, address: str) -> None:
    """Join the group of training processes at ``tcp://host:port``."""
    backend = "nccl" if device_kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=address, rank=rank_number, world_size=size)


def leave() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()
