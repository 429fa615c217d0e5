"""Target volumes of prepared cases, as pretraining and audits of encoders read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from gdmunet.dataset import Fold
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.mini import network_input
from gdmunet.encoders.views import random_window
from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.plans import Configuration, Plans
from gdmunet.preprocessing.casestore import CaseStore, StoredCase

# Window voxels to volume voxels; the part that is read around a body voxel must hold the widest window.
_ZOOM = (0.7, 1.4)
_REACH = 1.6


@dataclass(frozen=True)
class TargetSource:
    """The prepared targets of one configuration and fold."""

    plans: Plans
    configuration: Configuration
    store: CaseStore
    fold: Fold

    @classmethod
    def find(cls, plans: Plans, configuration: str, fold: str, folders: Folders) -> TargetSource:
        """`fold` is a number or ``all``: every case trains, and every case is held out.

        Raises
        ------
        GdmError
            Unknown configuration or fold, or no prepared cases.
        """
        store = CaseStore.of(folders.preprocessed, plans, configuration)
        identifiers = store.identifiers()
        chosen = plans.configuration(configuration)
        if not identifiers:
            raise GdmError("no case is prepared", file=store.folder, command=store.preparation())
        return cls(plans, chosen, store, plans.fold(fold, identifiers))

    @property
    def units(self) -> VolumeUnits:
        """Units of the targets."""
        return VolumeUnits.of(self.configuration, self.plans.dataset.target_name)

    def held_out(self, count: int) -> dict[str, np.ndarray]:
        """The first `count` validation targets (z, y, x) in network units by case.

        Raises
        ------
        GdmError
            Not prepared, damaged, prepared for other plans, or without a target.
        """
        names = self.fold.validation[:count]
        self.store.check(names)
        return {name: np.asarray(_target(self.store.open(name), name)[0]) for name in names}


class TargetWindows:
    """Windows of training targets: a pure function of (seed, iteration).

    Parameters
    ----------
    source
        Source of the volumes.
    dimensions
        2 (slices of the first axis) or 3.
    size, count
        Voxels along each side of a window; windows per iteration.

    Raises
    ------
    GdmError
        A training case that is damaged, or was prepared for other plans.
    """

    def __init__(self, source: TargetSource, dimensions: int, size: int, count: int, seed: int) -> None:
        self.source, self.dimensions, self.size, self.count, self.seed = source, dimensions, size, count, seed
        self._cases: dict[str, StoredCase] = {}
        source.store.check(source.fold.training)

    def __call__(self, iteration: int) -> torch.Tensor:
        """(count, 1, size, ...) encoder input."""
        return torch.stack([self._draw(iteration, place) for place in range(self.count)])

    def _draw(self, iteration: int, place: int) -> torch.Tensor:
        seed = np.random.SeedSequence((self.seed, iteration, place))
        rng, units = np.random.default_rng(seed), self.source.units
        names = self.source.fold.training
        name = names[rng.integers(len(names))]
        case = self._cases.setdefault(name, self.source.store.open(name))
        centre = case.body_voxels[rng.integers(len(case.body_voxels))]
        half = math.ceil(self.size * _REACH / 2)
        box = [slice(max(0, c - half), min(n, c + half)) for c, n in zip(centre, case.mask.shape, strict=True)]
        if self.dimensions == 2:
            box[0] = slice(centre[0], centre[0] + 1)
        block = torch.from_numpy(np.asarray(_target(case, name)[(slice(0, 1), *box)]))[0]
        block = block[0] if self.dimensions == 2 else block
        air = float(network_input(torch.tensor(float(self.source.configuration.background)), units))
        generator = torch.Generator().manual_seed(int(seed.generate_state(1)[0]))
        return random_window(network_input(units.to_raw(block), units), self.size, generator, _ZOOM, air)


def _target(case: StoredCase, name: str) -> np.ndarray:
    if case.target is None:
        raise GdmError(
            "the case has no target",
            case=name,
            remedy="add it to the raw data, then prepare the cases again",
        )
    return case.target  # type: ignore[return-value]
