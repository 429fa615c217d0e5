"""MedVAE's 3D encoders (stanfordmimi/MedVAE): the first half of a latent-diffusion autoencoder for CT and MR.

A network of gdmunet with the published key names (``encoder.down.0.block.0.conv1.weight`` ...). Layers that only the
latent needs (the last norm, the projection to one channel) are not built.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.scaling import rescale, window_of
from gdmunet.encoders.weight_files import channels_of, fill, read_weights
from gdmunet.plans import EncoderLevel

# CT: HU to -1..1, as its loader does; MR: minimum and maximum to -1..1.
_HOUNSFIELD_WINDOW = (-1000.0, 1000.0)


class MedVaeNetwork(nn.Module):
    """Residual stages with strided convolutions between them, then a middle part with attention over all places.

    Parameters
    ----------
    multipliers
        Channels of each stage in units of `width`: (1, 2, 4) compresses 4 times along an axis, (1, 2, 4, 4) 8 times.
    width
        128 in the published weights; a multiple of 32, the groups of its norms.
    recompute
        Whether each block is recomputed in the backward pass instead of keeping its activations, as in the original:
        about a third more time, a fifth of the memory.
    """

    def __init__(self, multipliers: tuple[int, ...], width: int = 128, recompute: bool = True) -> None:
        super().__init__()
        self.recompute = recompute
        self.channels = tuple(width * factor for factor in multipliers)
        self.conv_in = nn.Conv3d(1, width, 3, padding=1)
        self.down = nn.ModuleList(
            _Stage(before, after, last=number == len(multipliers) - 1)
            for number, (before, after) in enumerate(zip((width, *self.channels), self.channels, strict=False))
        )
        deepest = self.channels[-1]
        self.mid = nn.ModuleDict(
            {"block_1": _Block(deepest, deepest), "attn_1": _Attention(deepest), "block_2": _Block(deepest, deepest)}
        )

    def drop_behind(self, depth: int) -> None:
        """Keep the first `depth` stages; the middle part follows the last of all."""
        self.down, self.mid = self.down[:depth], nn.ModuleDict()
        cast("_Stage", self.down[-1]).downsample = None

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, z, y, x) to one map per stage, stride 1, 2, 4, ...; the deepest one behind the middle part."""
        values, maps = self.conv_in(volume), []
        for stage in cast("list[_Stage]", list(self.down)):
            for block in stage.block:
                values = self._run(block, values)
            maps.append(values)
            if stage.downsample is not None:
                values = stage.downsample(values)
        for part in self.mid.values():
            values = self._run(part, values)
        return [*maps[:-1], values]

    def _run(self, block: nn.Module, values: torch.Tensor) -> torch.Tensor:
        if self.recompute and values.requires_grad and torch.is_grad_enabled():
            result: torch.Tensor = checkpoint(block, values, use_reentrant=False)
        else:
            result = block(values)
        return result


class _Stage(nn.Module):
    def __init__(self, before: int, after: int, last: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList([_Block(before, after), _Block(after, after)])
        self.downsample = None if last else _Downsample(after)


class _Block(nn.Module):
    """Twice norm, SiLU, convolution; the input is added, through a 1 x 1 convolution where the width changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(before), nn.Conv3d(before, after, 3, padding=1)
        self.norm2, self.conv2 = _norm(after), nn.Conv3d(after, after, 3, padding=1)
        self.nin_shortcut = nn.Conv3d(before, after, 1) if before != after else None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.conv1(functional.silu(self.norm1(values)))
        change = self.conv2(functional.silu(self.norm2(change)))
        kept: torch.Tensor = values if self.nin_shortcut is None else self.nin_shortcut(values)
        return change + kept


class _Downsample(nn.Module):
    """Half the size: place i sees voxels 2i to 2i + 2, so only the far end is padded."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, stride=2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        halved: torch.Tensor = self.conv(functional.pad(values, (0, 1, 0, 1, 0, 1)))
        return halved


class _Attention(nn.Module):
    """One head over all places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv3d(channels, channels, 1) for _ in range(4))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normed = self.norm(values)
        rows = [part(normed).flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.q, self.k, self.v)]
        mixed = functional.scaled_dot_product_attention(*rows)
        change: torch.Tensor = self.proj_out(mixed.squeeze(1).transpose(1, 2).reshape(values.shape))
        return values + change


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class MedVaeEncoder(FrozenEncoder):
    """A `MedVaeNetwork` with input scaling: HU -1000..1000, or the target's range, to -1..1; arrays (x, y, z) RAS."""

    def __init__(self, network: MedVaeNetwork, units: VolumeUnits) -> None:
        levels = tuple(
            EncoderLevel(f"down_{number}", channels, (2**number,) * 3)
            for number, channels in enumerate(network.channels)
        )
        super().__init__(levels, units, divisor=16, orientation="RAS")
        self.network = network
        self.window = self._range = window_of(units, _HOUNSFIELD_WINDOW)

    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw units to -1..1."""
        return rescale(raw, self._range, -1.0, 1.0)

    def drop_behind(self, depth: int) -> None:
        """Stages behind the last level."""
        self.network.drop_behind(depth)

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """One map per stage."""
        maps: list[torch.Tensor] = self.network(volume)
        return maps


def build_4x(file: Path | None, units: VolumeUnits, _dimensions: int, trust_checkpoint: bool = False) -> FrozenEncoder:
    """``medvae-4x-3d`` from ``vae_4x_1c_3D.ckpt``: 128 @ 1, 256 @ 2, 512 @ 4."""
    return _build(file, units, (1, 2, 4), trust_checkpoint)


def build_8x(file: Path | None, units: VolumeUnits, _dimensions: int, trust_checkpoint: bool = False) -> FrozenEncoder:
    """``medvae-8x-3d`` from ``vae_8x_1c_3D.ckpt``: 128 @ 1, 256 @ 2, 512 @ 4, 512 @ 8."""
    return _build(file, units, (1, 2, 4, 4), trust_checkpoint)


def outline_4x(units: VolumeUnits) -> FrozenEncoder:
    """``medvae-4x-3d`` with weights of no meaning."""
    return MedVaeEncoder(MedVaeNetwork((1, 2, 4)), units)


def outline_8x(units: VolumeUnits) -> FrozenEncoder:
    """``medvae-8x-3d`` with weights of no meaning."""
    return MedVaeEncoder(MedVaeNetwork((1, 2, 4, 4)), units)


def _build(
    file: Path | None, units: VolumeUnits, multipliers: tuple[int, ...], trust_checkpoint: bool
) -> FrozenEncoder:
    assert file is not None  # without a file nothing is built: `missing_weights`
    weights = read_weights(file, trust_checkpoint)
    network = MedVaeNetwork(multipliers, channels_of(weights, "encoder.conv_in.weight", file))
    fill(network, weights, file, prefix="encoder.")
    return MedVaeEncoder(network, units)
