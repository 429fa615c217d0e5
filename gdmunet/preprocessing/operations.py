"""Operations and memory of a training step, counted on meta tensors: the generator's, and what an encoder adds.

An operation is a floating-point addition or multiplication of a convolution or matrix product (FLOP), which is where
the time of a GPU goes.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.encoders.choice import Load
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import EncoderLevel
from gdmunet.preprocessing.memory import LiveBytes

UsedLevels = Callable[[tuple[EncoderLevel, ...]], tuple[EncoderLevel, ...]]
"""The levels of an encoder that a trainer reads: `EncoderTrainer.used_levels`."""
_META = torch.device("meta")


def every_level(levels: tuple[EncoderLevel, ...]) -> tuple[EncoderLevel, ...]:
    """Where no trainer says otherwise."""
    return levels


@dataclass(frozen=True)
class GeneratorStep:
    """What of a step belongs to the generator: its network, the patch in voxels, and patches per batch."""

    network: NetworkSpec
    patch_size: tuple[int, ...]
    batch_size: int

    @property
    def operations(self) -> int:
        """FLOP of its forward and backward pass."""
        return _generator_operations(self.network, self.patch_size) * self.batch_size

    def operations_of(self, encoder: FrozenEncoder, used: UsedLevels = every_level) -> int:
        """FLOP that `encoder` adds: real patches forward, generated ones forward and back to the voxels."""
        return _encoder_operations(encoder, used(encoder.levels), self.patch_size) * self.batch_size

    def load(self, encoder: FrozenEncoder, used: UsedLevels = every_level) -> Load:
        """Operations and peak memory of `encoder` over those of the generator."""
        memory = _encoder_memory(encoder, used(encoder.levels), self.patch_size)
        return Load(
            self.operations_of(encoder, used) / self.operations,
            memory / _generator_memory(self.network, self.patch_size),
        )


@functools.lru_cache(maxsize=64)
def _generator_operations(spec: NetworkSpec, patch_size: tuple[int, ...]) -> int:
    with _META:
        network = build_network(spec).train()
        batch = torch.empty(2, spec.in_channels, *patch_size)  # batch norm wants two
    with FlopCounterMode(display=False) as counter:
        network(batch).sum().backward()
    return int(counter.get_total_flops()) // 2


@functools.lru_cache(maxsize=64)
def _generator_memory(spec: NetworkSpec, patch_size: tuple[int, ...]) -> int:
    """Peak bytes of a forward and backward pass of two patches, weights and their gradients included."""
    with LiveBytes("meta") as live, _META:
        network = build_network(spec).train()
        live.track(list(network.parameters()))
        network(torch.empty(2, spec.in_channels, *patch_size)).sum().backward()
    return int(live.peak)


def _encoder_memory(encoder: FrozenEncoder, levels: tuple[EncoderLevel, ...], patch_size: tuple[int, ...]) -> int:
    """Peak bytes of a forward pass of two patches and back to the voxels, weights included."""
    counted = copy.deepcopy(encoder).to(_META).freeze().stop_after(levels)
    with LiveBytes("meta") as live:
        live.track([*counted.parameters(), *counted.buffers()])
        generated = torch.empty(2, 1, *patch_size, device=_META, requires_grad=True)
        torch.stack([found.values.sum() for found in counted(generated)]).sum().backward()
    return int(live.peak)


def _encoder_operations(encoder: FrozenEncoder, levels: tuple[EncoderLevel, ...], patch_size: tuple[int, ...]) -> int:
    counted = copy.deepcopy(encoder).to(_META).freeze().stop_after(levels)
    real = torch.empty(1, 1, *patch_size, device=_META)
    generated = torch.empty(1, 1, *patch_size, device=_META, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            counted(real)
        torch.stack([found.values.sum() for found in counted(generated)]).sum().backward()
    return int(counter.get_total_flops())
