"""Pairs whose target a known smooth field has moved, and a short training on them."""

import dataclasses

import numpy as np
import torch
from scipy import ndimage
from toy import HU, toy_configuration

from gdmunet.dataset import DatasetDescriptor
from gdmunet.training.loop.ema import copy_weights
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch

CPU = torch.device("cpu")
# HU of soft tissue, fat, muscle, bone; the condition's signal of each, which is not a function of their order.
TARGET = np.array([0.0, -100.0, 60.0, 900.0], np.float32)
CONDITION = np.array([0.0, 1.5, 0.7, -1.5], np.float32)


@dataclasses.dataclass(frozen=True)
class Pair:
    """One case (z, y, x): condition, the target that lies on it, and the one that training sees."""

    condition: np.ndarray
    target: np.ndarray
    moved: np.ndarray


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], rms: float, width: float = 6.0) -> np.ndarray:
    """Displacements (axes, ...) in voxels with that root mean square along each axis."""
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), width) for _ in shape])
    return rms * field / np.sqrt((field**2).mean())


def misregistered_pair(seed: int, shape: tuple[int, ...] = (40, 40, 40), rms: float = 1.5) -> Pair:
    """Blobs of four tissues; the target is moved by a field of that size."""
    rng = np.random.default_rng(seed)
    heights = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 2.5) for _ in TARGET])
    tissue = heights.argmax(axis=0)
    sharp = ndimage.gaussian_filter(TARGET[tissue], 0.5)
    condition = ndimage.gaussian_filter(CONDITION[tissue], 0.5) + rng.normal(0, 0.1, tissue.shape)
    places = np.indices(tissue.shape) + smooth_field(rng, shape, rms)
    moved = ndimage.map_coordinates(sharp, places, order=1, mode="nearest")
    return Pair(condition.astype(np.float32), sharp, moved.astype(np.float32))


def error_after(kind: type, pairs: list[Pair], steps: int, edge: int = 24, seed: int = 0, **changes: object) -> float:
    """MAE in HU against the targets that were not moved, after a training on patches of the moved ones."""
    settings = {"iterations": steps, "learning_rate": 3e-3, "ema_decay": 0.95, "precision": "float32"} | changes
    kind = type(f"Short{kind.__name__}", (kind,), {"__module__": __name__, **settings})
    shape = pairs[0].target.shape
    planned = toy_configuration("2d" if len(shape) == 2 else "3d_fullres")
    configuration = dataclasses.replace(
        planned, patch_size=(edge,) * len(shape), batch_size=8 if len(shape) == 2 else 2
    )
    trainer = kind(configuration, DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", len(pairs), mask=True), CPU)
    state = TrainingState.fresh(trainer)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        begin_step(trainer, state, lambda _text: None)
        take_step(trainer, state, [patches(pairs, rng, edge, configuration.batch_size)])
        state.iteration += 1
    copy_weights(state.network, state.average.state)
    state.network.eval()
    with torch.no_grad():
        made = [state.network(torch.from_numpy(pair.condition)[None, None])[0, 0].numpy() * HU.scale for pair in pairs]
    return float(np.mean([np.abs(one - pair.target).mean() for one, pair in zip(made, pairs, strict=True)]))


def patches(pairs: list[Pair], rng: np.random.Generator, edge: int, count: int) -> Batch:
    """Crops at random places, in network units."""
    conditions, targets = [], []
    for _ in range(count):
        pair = pairs[rng.integers(len(pairs))]
        places = tuple(slice(at, at + edge) for at in (rng.integers(size - edge + 1) for size in pair.target.shape))
        conditions.append(pair.condition[places])
        targets.append(pair.moved[places] / HU.scale)
    condition, target = (torch.from_numpy(np.stack(one))[:, None].float() for one in (conditions, targets))
    return Batch(condition, target, torch.ones_like(target), ("",) * count)
