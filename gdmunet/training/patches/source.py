"""Patches from the case store, each a pure function of (seed, iteration, place in the batch).

So the order of batches depends on no worker count, no rank count and no interruption: a run that resumes at
iteration k reads exactly what an uninterrupted one would have read.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.geometry import triple
from gdmunet.preprocessing.casestore import CaseStore, StoredCase
from gdmunet.preprocessing.preprocessor import border_values
from gdmunet.training.patches.augmentation import UNCHANGED, Augmentation
from gdmunet.training.patches.crops import CropLabel, Crops


@dataclass(frozen=True)
class _Drawn:
    """A patch before it is read: case, label, and the window (z, y, x) with its first voxel."""

    case: StoredCase
    label: CropLabel
    corner: list[int]
    window: tuple[int, int, int]


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

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Patch as it is returned: two or three numbers."""
        return self.window_size[3 - self.dimensions :]

    def read(self, iteration: int, places: Sequence[int], augmentation: Augmentation | None) -> Crops:
        """What is read for the patches at `places` of batch `iteration`, and how each is to be augmented."""
        drawn = [self._draw(iteration, place, augmentation) for place in places]
        channels = drawn[0].case.condition.shape[0] + 1
        crops = Crops.empty([one.label for one in drawn], channels, self.patch_size)
        for one, (values, mask) in zip(drawn, crops.views(), strict=True):
            self._read(one, values.numpy(), mask.numpy())
        return crops

    def identifiers_of(self, iteration: int, places: Sequence[int]) -> list[str]:
        """The cases of the patches at `places` of batch `iteration`."""
        return [self._choose(iteration, place)[2] for place in places]

    def _choose(self, iteration: int, place: int) -> tuple[np.random.SeedSequence, np.random.Generator, str]:
        """The seed of a patch, its generator after the first draw, and the case that was drawn."""
        seed = np.random.SeedSequence((self.seed, iteration, place))
        rng = np.random.default_rng(seed)
        return seed, rng, self.identifiers[rng.integers(len(self.identifiers))]

    def _draw(self, iteration: int, place: int, augmentation: Augmentation | None) -> _Drawn:
        seed, rng, identifier = self._choose(iteration, place)
        case = _open(self.store, identifier)
        change = UNCHANGED
        if augmentation is not None:
            moves = bool(rng.random() < augmentation.spatial_probability)
            change = augmentation.draw(seed, self.dimensions, moves)
        shape = change.crop_shape(self.patch_size)
        window = triple((*(1 for _ in range(3 - self.dimensions)), *shape))
        return _Drawn(case, CropLabel(identifier, shape, change), self._corner(case, window, rng), window)

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

    def _read(self, drawn: _Drawn, values: np.ndarray, mask: np.ndarray) -> None:
        """Fill conditions and target, and the mask, with what lies in the window from its corner on."""
        case, window = drawn.case, drawn.window
        if case.target is None:
            raise GdmError(
                "a case without a target cannot be trained on",
                case=drawn.label.identifier,
                remedy="add its target to the raw data, then prepare the cases again",
            )
        values, mask = values.reshape(-1, *window), mask.reshape(window)
        parts = [
            _inside(low, size, extent) for low, size, extent in zip(drawn.corner, window, case.mask.shape, strict=True)
        ]
        read, place = tuple(part for part, _ in parts), tuple(part for _, part in parts)
        if mask[place].shape != window:
            values[:] = self._border(case)[:, None, None, None]
            mask[:] = 0
        values[:-1, *place] = case.condition[:, *read]
        values[-1:, *place] = case.target[:, *read]
        mask[place] = case.mask[read]


@functools.lru_cache(maxsize=128)
def _open(store: CaseStore, identifier: str) -> StoredCase:
    """Kept open: reading the record again would take a twentieth of a patch's time."""
    return store.open(identifier)


def _inside(low: int, size: int, extent: int) -> tuple[slice, slice]:
    """The part of [low, low + size) inside a volume of that extent, as places in the volume and in the window."""
    start, stop = max(0, low), min(low + size, extent)
    return slice(start, stop), slice(start - low, stop - low)
