"""Patches from the case store, each a pure function of (seed, iteration, place in the batch).

So the order of batches depends on no worker count, no rank count and no interruption: a run that resumes at
iteration k reads exactly what an uninterrupted one would have read.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from gdmunet.geometry import triple
from gdmunet.preprocessing.casestore import CaseStore, StoredCase
from gdmunet.preprocessing.preprocessor import border_values
from gdmunet.training.patches.augmentation import Augmentation, Sample


@dataclass(frozen=True)
class PatchSource:
    """The patches that exist.

    Attributes
    ----------
    store
        Prepared cases.
    identifiers
        Cases to draw from, each equally often.
    window_size
        Patch as three numbers; a 2D patch is one slice thick.
    dimensions
        2 or 3: axes of the patches that are returned.
    background
        Target value where there is no body, raw units.
    body_share
        Chance that a patch is centred on a voxel of the body, instead of anywhere.
    seed
        Seed that names the stream of patches.
    """

    store: CaseStore
    identifiers: tuple[str, ...]
    window_size: tuple[int, int, int]
    dimensions: int
    background: float
    body_share: float
    seed: int

    def draw(self, iteration: int, place: int, augmentation: Augmentation | None) -> tuple[str, Sample]:
        """The patch at `place` of batch `iteration`, augmented or as it is; (case, sample)."""
        seed = np.random.SeedSequence((self.seed, iteration, place))
        rng = np.random.default_rng(seed)
        identifier = self.identifiers[rng.integers(len(self.identifiers))]
        case = self.store.open(identifier)
        move = augmentation is not None and rng.random() < augmentation.spatial_probability
        window = self.window_size
        if move and augmentation is not None:
            flat = augmentation.margin(window[3 - self.dimensions :])
            window = triple((*(1 for _ in range(3 - self.dimensions)), *flat))
        border = self._border(case)
        sample = self._read(case, self._corner(case, window, rng), window, border)
        if augmentation is None:
            return identifier, sample
        patch_size = self.window_size[3 - self.dimensions :]
        with _random_state(int(seed.generate_state(1)[0])):
            return identifier, augmentation.apply(sample, patch_size, move, border)

    def _corner(self, case: StoredCase, window: tuple[int, ...], rng: np.random.Generator) -> list[int]:
        shape = case.mask.shape
        if rng.random() < self.body_share:
            centre = case.body_voxels[rng.integers(len(case.body_voxels))]
        else:
            centre = [rng.integers(size) for size in shape]
        corner = []
        for middle, size, extent in zip(centre, window, shape, strict=True):
            if size >= extent:  # in the middle of the window, to the voxel where prediction puts it
                corner.append(-((size - extent) // 2))
            else:
                corner.append(int(np.clip(int(middle) - size // 2, 0, extent - size)))
        return corner

    def _border(self, case: StoredCase) -> np.ndarray:
        """Value of every channel (conditions, then target) outside a volume, network units: the case's air."""
        air = float(case.properties.target_map.apply(np.asarray(self.background)))
        return np.asarray([*border_values(case.properties), air], np.float32)

    def _read(self, case: StoredCase, corner: list[int], window: tuple[int, ...], border: np.ndarray) -> Sample:
        box = [[low, low + size] for low, size in zip(corner, window, strict=True)]
        channels = case.condition.shape[0]
        data = _crop(case.condition, box, border[:channels])
        target = _crop(case.target, box, border[channels:])
        mask = _crop(case.mask, box, np.zeros(1, np.float32))
        lead = slice(None) if self.dimensions == 3 else 0
        return Sample(data[:, lead], target[:, lead], mask[:, lead])


@contextlib.contextmanager
def _random_state(seed: int) -> Iterator[None]:
    """Give batchgenerators, which draws from both global random states, states of its own."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def _crop(array: Any, box: list[list[int]], border: np.ndarray) -> np.ndarray:
    """The box of a (z, y, x) or (C, z, y, x) array, as float32 (C, ...); outside lies the channel's border value."""
    lead = array.ndim - 3
    cut = np.asarray(crop_and_pad_nd(array, box, 0), dtype=np.float32)
    cut = cut if lead else cut[None]
    for axis, ((low, _), size) in enumerate(zip(box, array.shape[lead:], strict=True), start=1):
        for outside in (slice(0, max(0, -low)), slice(max(0, size - low), None)):
            cut[(slice(None),) * axis + (outside,)] = border[:, None, None, None]
    return cut
