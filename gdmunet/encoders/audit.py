"""Is a frozen encoder worth training against? Four questions on a few volumes, level by level.

1. Does a shifted, noisy crop find its own place? A drift pulls features towards features, so a place must look like
   itself and unlike its neighbours.
2. Is blur punished more than noise of equal error? The drift is to prevent blurred predictions.
3. Do channels carry anything? Dead ones cost memory without use.
4. Are input gradients finite and bounded on flat, noisy and real patches? They train the generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from gdmunet.encoders.audit_crops import Block, has_contrast, stride_read
from gdmunet.encoders.audit_report import EncoderAudit, LevelAudit, verdict
from gdmunet.encoders.base import FeatureMap, FrozenEncoder
from gdmunet.encoders.fine import FINE_WINDOWS, window_statistics
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel

_CANDIDATES, _QUERIES = 512, 128


@dataclass(frozen=True)
class _LevelTally:
    """What one level gave, over all windows."""

    right: list[float]
    positions: list[float]
    ratios: list[float]
    sums: torch.Tensor
    gradients: dict[str, float]


def audit_encoder(
    encoder: FrozenEncoder,
    volumes: Mapping[str, np.ndarray],
    *,
    name: str = "encoder",
    window: int = 64,
    windows: int = 4,
    noise: float = 0.05,
    seed: int = 0,
) -> EncoderAudit:
    """Audit an encoder on volumes that it should not have been trained on.

    Parameters
    ----------
    volumes
        Name to (z, y, x) in network units of the encoder's `units`; a 2D encoder sees axial slices.
    window
        Voxels along each side of a crop; smaller volumes give smaller crops.
    windows
        Crops per volume.
    noise
        Standard deviation of the noise of the shifted crop over that of the crop itself.

    Raises
    ------
    GdmError
        No volumes.
    """
    if not volumes:
        raise GdmError(
            "there are no volumes to audit the encoder on", remedy="give files with -i or a data set with -d"
        )
    tallies = [
        _LevelTally([], [], [], torch.zeros(3, _channels_read(level), dtype=torch.float64), {})
        for level in encoder.levels
    ]
    for number, volume in enumerate(volumes.values()):
        rng = np.random.default_rng((seed, number))
        for turn in range(windows):
            block = Block.draw(encoder, volume, window, rng)
            _audit_window(encoder, block, tallies, noise, rng)
            if turn == 0:
                _audit_gradients(encoder, block.crop(), tallies, "image")
    _audit_flat(encoder, window, tallies)
    levels = tuple(_judge(encoder, index, tally) for index, tally in enumerate(tallies))
    return EncoderAudit(name, tuple(volumes), levels)


def _audit_window(
    encoder: FrozenEncoder, block: Block, tallies: list[_LevelTally], noise: float, rng: np.random.Generator
) -> None:
    sharp = block.crop()
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    blurred = torch.from_numpy(gaussian_filter(sharp.numpy()[0, 0], 1.0))[None, None]
    error = float((blurred - sharp).square().mean().sqrt())
    noisy = sharp + error * torch.randn(sharp.shape, generator=generator)
    with torch.no_grad():
        maps, of_blur, of_noise = (_read(encoder(volume)) for volume in (sharp, blurred, noisy))
    for index, tally in enumerate(tallies):
        values = maps[index].values
        cells = values[0].flatten(1).double()
        tally.sums.add_(torch.stack([torch.full((len(cells),), cells.shape[1]), cells.sum(1), cells.square().sum(1)]))
        blur, rough = (float((m[index].values - values).square().mean().sqrt()) for m in (of_blur, of_noise))
        tally.ratios.append(blur / max(rough, 1e-12))
        _retrieve(encoder, block, index, values, tally, noise * float(sharp.std()), generator)


def _retrieve(
    encoder: FrozenEncoder,
    block: Block,
    index: int,
    reference: torch.Tensor,
    tally: _LevelTally,
    noise: float,
    generator: torch.Generator,
) -> None:
    """Cells of a crop that is moved by one cell, and up to a quarter more, look for themselves in the unmoved one."""
    stride, shape = stride_read(encoder.levels[index].stride), reference.shape[2:]
    steps = [int(torch.randint(-1, 2, (), generator=generator)) for _ in shape]
    shift = tuple(
        k * s + int(torch.randint(-(s // 4), s // 4 + 1, (), generator=generator))
        for k, s in zip(steps, stride, strict=True)
    )
    moved = block.crop(shift)
    with torch.no_grad():
        values = _read(encoder(moved + noise * torch.randn(moved.shape, generator=generator)))[index].values
    cells = torch.stack(torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    own = cells + torch.tensor(steps)
    inside = ((own >= 0) & (own < torch.tensor(shape))).all(1)
    queries = torch.nonzero(inside & has_contrast(moved, stride)).flatten()
    if not len(queries):
        return
    queries = queries[torch.randperm(len(queries), generator=generator)[:_QUERIES]]
    flat = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])
    wanted = (own[queries] * flat).sum(1)
    others = torch.nonzero(has_contrast(block.crop(), stride)).flatten()
    others = others[torch.randperm(len(others), generator=generator)[:_CANDIDATES]]
    candidates = torch.cat([wanted, others]).unique()
    keys, left = reference[0].flatten(1).T[candidates], values[0].flatten(1).T[queries]
    centre = keys.mean(0, keepdim=True)
    similar = functional.normalize(left - centre, dim=1) @ functional.normalize(keys - centre, dim=1).T
    tally.right.extend((candidates[similar.argmax(1)] == wanted).float().tolist())
    tally.positions.extend([float(len(candidates))] * len(queries))


def _read(maps: Sequence[FeatureMap]) -> list[FeatureMap]:
    """As the drift reads them: a level at stride 1 by the means and deviations of small windows."""
    return [
        FeatureMap(one.level, torch.cat(window_statistics(one.values, FINE_WINDOWS[0]), 1), stride_read(one.stride))
        if max(one.stride) == 1
        else one
        for one in maps
    ]


def _channels_read(level: EncoderLevel) -> int:
    return 2 * level.channels if max(level.stride) == 1 else level.channels


def _audit_flat(encoder: FrozenEncoder, window: int, tallies: list[_LevelTally]) -> None:
    """Input gradients where there is nothing: air, the mean value, and a value above it."""
    deepest = max(max(stride_read(level.stride)) for level in encoder.levels)
    size = (min(window, max(32, 2 * deepest)),) * encoder.dimensions
    for value in (encoder.units.network_background, 0.0, 1.0):
        _audit_gradients(encoder, torch.full((1, 1, *size), float(value)), tallies, "flat")


def _audit_gradients(encoder: FrozenEncoder, volume: torch.Tensor, tallies: list[_LevelTally], kind: str) -> None:
    volume = volume.clone().requires_grad_()
    for level, tally in zip(encoder(volume), tallies, strict=True):
        gradient = torch.autograd.grad(level.values.square().mean(), volume, retain_graph=True)[0]
        tally.gradients[kind] = _largest(tally.gradients.get(kind, 0.0), gradient)


def _largest(before: float, gradient: torch.Tensor) -> float:
    """Largest absolute value, times the number of voxels so that sizes of crops compare; NaN and infinity stay."""
    now = float(gradient.abs().max()) * gradient.numel()
    return now if not math.isfinite(now) else max(before, now)


def _judge(encoder: FrozenEncoder, index: int, tally: _LevelTally) -> LevelAudit:
    level = encoder.levels[index]
    count, total, squares = tally.sums
    deviations = (squares / count - (total / count).square()).clamp_min(0).sqrt()
    dead = float((deviations < 1e-3 * deviations.median().clamp_min(1e-12)).double().mean())
    retrieval = float(np.mean(tally.right)) if tally.right else float("nan")
    positions = float(np.mean(tally.positions)) if tally.positions else float("nan")
    ratio = float(np.exp(np.mean(np.log(np.maximum(tally.ratios, 1e-12)))))
    flat, image = tally.gradients["flat"], tally.gradients["image"]
    return LevelAudit(
        level.name,
        level.stride,
        level.channels,
        retrieval,
        1 / positions,
        positions,
        ratio,
        dead,
        flat,
        image,
        verdict(retrieval, ratio, dead, flat, image),
    )
