"""The memory of an operation, counted exactly without allocating it.

The operation runs on meta tensors (shapes and lifetimes, no data) while `LiveBytes` follows every storage from its
birth to its death, so the count sees what autograd saves, casts of automatic mixed precision, gradients of feature
maps, and temporaries. It cannot see workspaces inside a kernel (cuDNN's algorithms), the allocator's
rounding and fragmentation, and the CUDA context; a budget must leave room for these.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gdmunet.preprocessing.meta_memo import ShapeMemo
from gdmunet.preprocessing.meta_values import answer

Bytes = np.ndarray[Any, np.dtype[np.float64]]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, while the context is active.

    Each storage counts once, however many views it has, from the operation that made it until Python and autograd
    have both let go of it. Works on real and on meta tensors; meta tensors that are asked for values answer as
    `gdmunet.preprocessing.meta_values` says.

    Parameters
    ----------
    device
        Kind of device whose storages count, such as ``meta``; None: all of them.

    Attributes
    ----------
    current, peak
        Bytes alive at present, and the most so far.
    history
        Bytes alive after each operation.
    """

    def __init__(self, device: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self.device = device
        self.current = 0
        self.peak = 0
        self.history: list[int] = []
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def track(self, value: Any) -> None:
        """Count the storages of the tensors in `value` (nested lists and dicts) that are not counted yet."""
        for tensor in tree_leaves(value):
            if isinstance(tensor, torch.Tensor) and self.device in (None, tensor.device.type):
                self._follow(tensor.untyped_storage())
        self.peak = max(self.peak, self.current)

    def restart(self) -> None:
        """Forget the peak and the history; what is alive stays counted."""
        self.peak, self.history = self.current, []

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def forget(_: Any) -> None:
            del self._alive[key]
            self.current -= size

        self._alive[key] = weakref.ref(storage, forget)
        self.current += size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = _run(func, args, kwargs or {})
        self.track(result)
        self.history.append(self.current)
        return result


def _result(operation: Any, arguments: Any, named: Any) -> Any:
    answered = answer(operation, arguments, named)
    return operation(*arguments, **named) if answered is NotImplemented else answered


_run = ShapeMemo(_result)
"""Shared by all counts: networks of one planning have most of their operations in common."""


class DifferentOperationsError(Exception):
    """A step consists of other operations at another size."""


@dataclass(frozen=True)
class StepSize:
    """Voxels of a batch, and its patches."""

    voxels: int
    patches: int

    @property
    def row(self) -> tuple[int, int, int]:
        """What bytes are a sum of: a constant, a share for each voxel, a share for each patch."""
        return 1, self.voxels, self.patches


@dataclass(frozen=True, eq=False)
class LinearTrace:
    """Bytes alive during a step, as a function of its size.

    Where every tensor's size is a constant plus a multiple of the batch's voxels plus a multiple of its patches, the
    bytes alive after each operation are such a sum as well. Three small counts give the three numbers, and the peak of
    any size is the exact maximum.

    Attributes
    ----------
    shares
        (3, operations): constant, bytes per voxel, bytes per patch. Two counts give no share per patch, one count a
        constant, which holds for its own size.
    """

    shares: Bytes

    @classmethod
    def through(cls, histories: Sequence[Sequence[int]], sizes: Sequence[StepSize]) -> LinearTrace:
        """From the bytes alive after each operation at one, two or three sizes.

        Raises
        ------
        DifferentOperationsError
            The steps consist of different operations.
        """
        if len({len(history) for history in histories}) > 1:
            raise DifferentOperationsError(", ".join(f"{len(history)} operations" for history in histories))
        known = len(sizes)
        rows = np.asarray([size.row[:known] for size in sizes], dtype=np.float64)
        shares = np.zeros((3, len(histories[0])))
        shares[:known] = np.linalg.solve(rows, np.asarray(histories, dtype=np.float64))
        return cls(shares)

    def peak(self, size: StepSize) -> int:
        """Most bytes alive at once."""
        return round(float(np.max(np.asarray(size.row, dtype=np.float64) @ self.shares)))


def bytes_of(tensors: Any) -> int:
    """Bytes of the storages of the tensors in `tensors` (nested lists and dicts), each storage once."""
    storages = [tensor.untyped_storage() for tensor in tree_leaves(tensors) if isinstance(tensor, torch.Tensor)]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
