"""Several processes that train one network: the number of this one, sums over all, and what they tell each other.

Tensors on the training's device go through the group of its backend (nccl on GPUs). Flags and plain values go through
a second group on the CPU, which neither stops a GPU nor ends by nccl's time-out while one process works alone.
"""

from __future__ import annotations

import datetime
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous

from gdmunet.errors import GdmError
from gdmunet.paths import StartedProcess
from gdmunet.training.watch import Watch

T = TypeVar("T")

_MEETING_REMEDY = {
    "torchrun": "check that torchrun runs on every machine with the same --nnodes, --rdzv-endpoint and --rdzv-id",
    "srun": "start the command by srun, which starts every task (a batch script starts one alone), and check that the "
    "machines reach each other; MASTER_ADDR and MASTER_PORT choose another meeting place",
}

# The processes of a group meet within this time: in a step, and on the CPU at the end of an epoch or of a validation,
# which takes one of them longer than another. A process that dies is noticed at once (`watch.py`).
JOIN_TIME = datetime.timedelta(minutes=5)
STEP_TIME = datetime.timedelta(minutes=30)
MEETING_TIME = datetime.timedelta(days=7)


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


@contextmanager
def member(place: StartedProcess, device_kind: str) -> Iterator[torch.device]:
    """Be one of the processes that a launcher started, inside; gives the device of this one.

    Every process opens it, and does its whole work inside. An error of one ends all; one of them prints it, the others
    leave by `SilentEnd`.

    Parameters
    ----------
    device_kind
        ``cuda``: each process of a machine has a GPU of its own; ``cpu``.

    Raises
    ------
    GdmError
        A process that did not come; processes on different kinds of devices; too few GPUs; a process that died.
    """
    store = _open_store(place)
    hosts = _meet(store, place, device_kind)
    watch = Watch.open(store, place, [host for host, _ in hosts])
    try:
        device = _device(place, device_kind)
        _join(store, place, device)
        yield device
        _leave()
    except BaseException as error:
        end = watch.judged(error)
        if end is error:
            raise
        raise end from error
    finally:
        _NEIGHBOURS.clear()
    watch.close()


def neighbours() -> int:
    """Number of training processes on this machine."""
    return _NEIGHBOURS[0] if _NEIGHBOURS else 1


def _open_store(place: StartedProcess) -> Any:
    """The store at which the processes meet, which the first one or its launcher holds."""
    query = f"rank={place.number}&world_size={place.size}"
    address = f"[{place.address}]" if ":" in place.address else place.address
    try:
        found = next(rendezvous(f"tcp://{address}:{place.port}?{query}", timeout=JOIN_TIME))
    except (RuntimeError, ValueError) as error:  # PyTorch's errors of the network are among the first
        raise GdmError(
            "the training processes do not meet",
            found=f"process {place.number + 1} of {place.size} ({place.launcher}): {str(error).splitlines()[0]}",
            expected=f"the first process at {place.address}, port {place.port}",
            remedy=_MEETING_REMEDY[place.launcher],
        ) from error
    store: Any = found[0]
    return store


def _meet(store: Any, place: StartedProcess, device_kind: str) -> list[tuple[str, str]]:
    """Machine and kind of device of every process, once all have come."""
    names = [f"hello/{number}" for number in range(place.size)]
    store.set(names[place.number], json.dumps((socket.gethostname(), device_kind)))
    end = time.monotonic() + JOIN_TIME.total_seconds()
    while missing := [number for number, name in enumerate(names) if not store.check([name])]:
        if time.monotonic() > end:
            raise GdmError(
                "not all training processes have come",
                found=f"{place.size - len(missing)} of {place.size} after {JOIN_TIME.total_seconds():.0f} s",
                expected=f"process {', '.join(str(number + 1) for number in missing[:8])} as well",
                remedy=_MEETING_REMEDY[place.launcher],
            )
        time.sleep(0.05)
    everyone = [(str(host), str(kind)) for host, kind in (json.loads(store.get(name)) for name in names)]
    if len({kind for _, kind in everyone}) > 1:
        raise GdmError(
            "the training processes have devices of different kinds",
            found=", ".join(f"{kind} on {host}" for host, kind in dict.fromkeys(everyone)),
            remedy="start them on machines that are alike, or give -device",
        )
    _NEIGHBOURS[:] = [sum(host == everyone[place.number][0] for host, _ in everyone)]
    return everyone


def _device(place: StartedProcess, kind: str) -> torch.device:
    """The device of this process: of GPUs the one of its number, or the only one that its launcher lets it see."""
    if kind != "cuda":
        torch.set_num_threads(max(1, torch.get_num_threads() // neighbours()))
        return torch.device(kind)
    there = torch.cuda.device_count()
    if place.local >= there and there != 1:
        raise GdmError(
            "more processes than GPUs on a machine",
            found=f"{there} GPUs for process {place.local + 1} of this machine",
            remedy="start as many processes for each machine as it has GPUs",
        )
    return torch.device("cuda", place.local if there > 1 else 0)


def _join(store: Any, place: StartedProcess, device: torch.device) -> None:
    """Join the group; a GPU is chosen before, so that nothing lands on the first one."""
    group = dist.PrefixStore(  # type: ignore[attr-defined]
        "training", store
    )
    known: dict[str, Any] = {"store": group, "rank": place.number, "world_size": place.size, "timeout": STEP_TIME}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, **known)
    else:
        dist.init_process_group("gloo", **known)
    _MEETINGS.append(dist.new_group(backend="gloo", timeout=MEETING_TIME))


def _leave() -> None:
    """Leave the group, together with all others."""
    barrier()
    _MEETINGS.clear()
    dist.destroy_process_group()


# The number of processes of this machine, where this process is in a group.
_NEIGHBOURS: list[int] = []
# The group on the CPU, where this process is in a group.
_MEETINGS: list[dist.ProcessGroup | None] = []


def _meeting() -> dist.ProcessGroup | None:
    """The group on the CPU; the group itself for processes that a test brought together."""
    return _MEETINGS[0] if _MEETINGS else None
