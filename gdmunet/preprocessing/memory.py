"""How much memory a training step takes at its peak, counted exactly without allocating it.

The step is run on meta tensors (shapes and lifetimes, no data) while `LiveBytes` follows every storage from its
birth to its death, so the count sees what autograd saves, casts of automatic mixed precision, gradients of feature
maps, and temporaries. What it cannot see are workspaces inside a kernel (cuDNN's algorithms), the allocator's
rounding and fragmentation, and the CUDA context; a budget must leave room for these.
"""

from __future__ import annotations

import contextlib
import functools
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gdmunet.device import Precision
from gdmunet.networks import build_network
from gdmunet.plans import MemoryFootprint, NetworkSpec
from gdmunet.preprocessing.cuda_autocast import CudaAutocast


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, while the context is active.

    Each storage counts once, however many views it has, from the operation that made it until Python and autograd
    have both let go of it. Works on real, meta and fake tensors.

    Attributes
    ----------
    current, peak
        Bytes alive now, and the most so far.
    history
        Bytes alive after each operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current = 0
        self.peak = 0
        self.history: list[int] = []
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def track(self, value: Any) -> None:
        """Count the storages of the tensors in `value` (nested lists and dicts) that are not counted yet."""
        for tensor in tree_leaves(value):
            if isinstance(tensor, torch.Tensor):
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
        result = func(*args, **(kwargs or {}))
        self.track(result)
        self.history.append(self.current)
        return result


@dataclass(frozen=True)
class StepBatch:
    """What one step is fed.

    Attributes
    ----------
    condition, target
        float32 (B, C, ...) and (B, 1, ...) in network units.
    mask
        float32 (B, 1, ...), 1 where there is body.
    """

    condition: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor


Autocast = Callable[[], contextlib.AbstractContextManager]
Step = Callable[[nn.Module, StepBatch, Autocast], None]
Build = Callable[[NetworkSpec], nn.Module]


def masked_l1_step(network: nn.Module, batch: StepBatch, autocast: Autocast) -> None:
    """Fidelity training's forward pass, loss (mean absolute difference in the mask, in float32) and backward pass."""
    with autocast():
        prediction = network(batch.condition)
    difference = (prediction.float() - batch.target).abs() * batch.mask
    loss = difference.sum() / batch.mask.sum().clamp(min=1)
    loss.backward()


def training_footprint(
    network: NetworkSpec,
    patch_size: tuple[int, ...],
    batch_size: int,
    precision: Precision,
    *,
    step: Step = masked_l1_step,
    build: Build = build_network,
    ema: bool = True,
    state_bytes: int = 0,
    linear: bool = True,
    divisor: int = 1,
) -> MemoryFootprint:
    """Peak bytes of one training step in the steady state (the optimiser's moments exist), by part.

    Parameters
    ----------
    network, patch_size, batch_size, precision
        What is trained on what; `precision` is that of automatic mixed precision, parameters are float32.
    step
        Forward pass, loss and backward pass; enters `autocast()` for what runs in mixed precision. A trainer with
        more parts (encoder, drift) passes its own.
    build
        Makes the module, on meta tensors; it may hold frozen parts beside the generator, whose parameters need no
        gradient.
    ema
        A second copy of the trained parameters is kept and updated.
    state_bytes
        Anything else that stays on the device (a bank of features); counted with the activations.
    linear
        Every tensor's size is a constant plus a multiple of the batch's voxels. Then the bytes alive after each
        operation are such a sum as well, two small counts give both numbers, and the peak of any patch and batch size
        is their exact maximum (but for a few bytes a channel and sample). Pass False where it does not hold, such as
        for a matrix of all pairs in a batch: each size is then counted by itself.
    divisor
        The small counts use patches that it divides, for steps that would pad others.

    Notes
    -----
    Counts are cached, so `step` and `build` should be module-level functions.
    """
    spec = _StepSpec(network, precision, step, build, ema)
    if linear:
        trace = _linear_trace(spec, _smallest_patch(network, divisor))
        voxels = batch_size * int(np.prod(patch_size))
        peak = int(np.max(trace.constant + trace.per_voxel * voxels))
        resident = trace.resident
    else:
        resident, peak = _direct_peak(spec, tuple(patch_size), batch_size)
    held = resident.parameters + resident.gradients + resident.optimizer + resident.ema
    return MemoryFootprint(
        parameters=resident.parameters,
        gradients=resident.gradients,
        optimizer=resident.optimizer,
        ema=resident.ema,
        activations=max(0, peak - held) + state_bytes,
    )


@dataclass(frozen=True)
class _StepSpec:
    """What a count depends on besides the sizes; hashable."""

    network: NetworkSpec
    precision: Precision
    step: Step
    build: Build
    ema: bool


@dataclass(frozen=True)
class _Resident:
    """Bytes that stay from step to step (gradients: from backward to the next step)."""

    parameters: int
    gradients: int
    optimizer: int
    ema: int


@dataclass(frozen=True)
class _LinearTrace:
    """Bytes alive after operation i: ``constant[i] + per_voxel[i] * voxels of the batch``."""

    constant: np.ndarray
    per_voxel: np.ndarray
    resident: _Resident


def _smallest_patch(network: NetworkSpec, divisor: int) -> tuple[int, ...]:
    """A patch whose bottleneck has two voxels a side: the least that every normalisation accepts."""
    return tuple(math.lcm(int(2 * n), 2 * divisor) for n in np.prod(network.strides, axis=0))


@functools.lru_cache(maxsize=1024)
def _linear_trace(spec: _StepSpec, patch: tuple[int, ...]) -> _LinearTrace:
    resident, (small, large) = _count(spec, (patch, (2 * patch[0], *patch[1:])), 2)
    if len(small) != len(large):
        raise ValueError("the step does other operations at another patch size; count it with linear=False")
    voxels = 2 * int(np.prod(patch))
    per_voxel = (large - small) / voxels
    return _LinearTrace(small - per_voxel * voxels, per_voxel, resident)


@functools.lru_cache(maxsize=1024)
def _direct_peak(spec: _StepSpec, patch: tuple[int, ...], batch_size: int) -> tuple[_Resident, int]:
    resident, (history,) = _count(spec, (patch,), batch_size)
    return resident, int(history.max())


def _count(
    spec: _StepSpec, patches: tuple[tuple[int, ...], ...], batch_size: int
) -> tuple[_Resident, list[np.ndarray]]:
    """Run one step on meta tensors for each patch; resident bytes, and the bytes alive after each operation."""
    histories = []
    with torch.device("meta"), LiveBytes() as live:
        module = spec.build(spec.network)
        module.train()
        trained = [p for p in module.parameters() if p.requires_grad]
        moments = [torch.empty_like(p) for p in trained for _ in range(2)]
        ema = [torch.empty_like(p) for p in trained] if spec.ema else []
        for patch in patches:
            module.zero_grad(set_to_none=True)
            batch = _meta_batch(spec.network, patch, batch_size)
            live.restart()
            _run_step(module, trained, batch, spec)
            histories.append(np.asarray(live.history, dtype=np.float64))
            del batch
        held = list(module.parameters()) + list(module.buffers())
        resident = _Resident(_bytes(held), _bytes(trained), _bytes(moments), _bytes(ema))
    return resident, histories


def _meta_batch(network: NetworkSpec, patch: tuple[int, ...], batch_size: int) -> StepBatch:
    condition = torch.empty(batch_size, network.in_channels, *patch)
    target = torch.empty(batch_size, network.out_channels, *patch)
    return StepBatch(condition, target, torch.empty_like(target))


def _run_step(module: nn.Module, trained: list[nn.Parameter], batch: StepBatch, spec: _StepSpec) -> None:
    """One step as the training loop does it, as far as memory sees it."""
    spec.step(module, batch, functools.partial(mixed_precision, spec.precision))
    # Clipping, AdamW and the EMA work in place, but for one large temporary: the square root of all second moments
    # at once (AdamW's foreach form, the one that GPUs run). Only that is acted out, which is much faster.
    roots = [torch.empty_like(p.grad) for p in trained if p.grad is not None]
    del roots


def mixed_precision(precision: Precision) -> contextlib.AbstractContextManager:
    """Mixed precision as a CUDA device has it, for tensors on any device; nothing for float32."""
    return contextlib.nullcontext() if precision == "float32" else CudaAutocast(getattr(torch, precision))


def _bytes(tensors: list) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
