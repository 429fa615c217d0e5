"""Several processes that train one network: the number of this one, sums over all, and what they tell each other.

Tensors on the training's device go through the group of its backend (nccl on GPUs). Flags and plain values go through
a second group on the CPU, which neither stops a GPU nor ends by nccl's time-out while one process works alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")

# The processes of a group meet within this time: in a step, and on the CPU at the end of an epoch or of a validation,
# which takes one of them longer than another. A process that dies is noticed at once, by the parent of all.
STEP_TIME = datetime.timedelta(minutes=30)
MEETING_TIME = datetime.timedelta(days=7)


@dataclass(frozen=True)
class Place:
    """The place of a process in its group.

    Attributes
    ----------
    number, size
        Number of this process from 0 on, and the number of processes.
    device
        Device of this process.
    port
        Port of the store at which the processes meet.
    """

    number: int
    size: int
    device: torch.device
    port: int


def world_size() -> int:
    """Number of training processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def barrier() -> None:
    """Wait for every process."""
    if dist.is_initialized():
        dist.barrier(group=_meeting())


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


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is true in any process; all processes must ask."""
    if world_size() == 1:
        return flags
    values = torch.tensor([float(flag) for flag in flags])
    dist.all_reduce(values, op=dist.ReduceOp.MAX, group=_meeting())
    return tuple(value > 0 for value in values.tolist())


def gather(value: T) -> list[T]:
    """The plain value of every process, in their order; all processes must ask."""
    if world_size() == 1:
        return [value]
    every: list[Any] = [None] * world_size()
    dist.all_gather_object(every, value, group=_meeting())
    return every


def unsynchronised(network: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
    """Inside, if `wanted`, gradients of a network that processes share stay in this one: a later batch sends the sum.

    The forward pass lies inside as well.
    """
    if wanted and isinstance(network, nn.parallel.DistributedDataParallel):
        shared: AbstractContextManager[Any] = network.no_sync()
        return shared
    return nullcontext()


def open_store(port: int | None = None) -> Any:
    """The store at which processes meet: a new one at a free port (its attribute `port`), or the one at that port."""
    return dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", port or 0, is_master=port is None, wait_for_workers=False, timeout=STEP_TIME
    )


def join(place: Place) -> None:
    """Join the group of training processes; a GPU is chosen before, so that nothing lands on the first one."""
    store = open_store(place.port)
    known: dict[str, Any] = {"store": store, "rank": place.number, "world_size": place.size, "timeout": STEP_TIME}
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)
        dist.init_process_group("nccl", device_id=place.device, **known)
    else:
        dist.init_process_group("gloo", **known)
    _MEETINGS.append(dist.new_group(backend="gloo", timeout=MEETING_TIME))


def leave() -> None:
    """Leave the group, together with all others."""
    if dist.is_initialized():
        barrier()
        _MEETINGS.clear()
        dist.destroy_process_group()


# The group on the CPU, where this process is in a group.
_MEETINGS: list[dist.ProcessGroup | None] = []


def _meeting() -> dist.ProcessGroup | None:
    """The group on the CPU; the group itself for processes that a test brought together."""
    return _MEETINGS[0] if _MEETINGS else None
