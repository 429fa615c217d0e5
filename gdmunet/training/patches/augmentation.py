"""Augmentation of one patch, by tensors: space moves everything alike, intensity changes only the condition."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from gdmunet.errors import GdmError
from gdmunet.training.patches.intensity import IntensityTransform, PatchDraws, Range
from gdmunet.training.patches.motion import crop_shape, move, rotation_matrix


@dataclass(frozen=True)
class Sample:
    """One patch in network units: `values` (C + 1, ...), the conditions and then the target; mask (1, ...) 0 or 1.

    Both are float32.
    """

    values: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, eq=False)
class Change:
    """What happens to one patch, as numbers that travel with its crop.

    Attributes
    ----------
    matrix
        Place in the crop from the place in the patch, both about their centres in voxels; None: the patch stays.
    flips
        Axes of the patch that are mirrored.
    seed
        Seed of the changes of intensity.
    """

    matrix: np.ndarray | None = None
    flips: tuple[int, ...] = ()
    seed: int = 0

    def crop_shape(self, patch_size: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the region that is read for the patch."""
        return patch_size if self.matrix is None else crop_shape(self.matrix, patch_size)


UNCHANGED = Change()


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training patch.

    Attributes
    ----------
    spatial_probability
        Chance of a rotation and scaling of the patch.
    rotation
        Largest rotation in degrees about each axis. In 3D, axes across thick slices are not tilted: see `in_plane`.
    in_plane
        Whether patches rotate only within slices (volumes with thick slices, and 2D).
    scale
        Smallest and largest zoom.
    mirror
        Whether each axis is flipped with a chance of one half.
    intensity
        Transforms of the condition, applied in this order.
    """

    spatial_probability: float = 0.2
    rotation: float = 15.0
    in_plane: bool = False
    scale: Range = (0.85, 1.2)
    mirror: bool = True
    intensity: tuple[IntensityTransform, ...] = ()

    def __post_init__(self) -> None:
        strange = [one for one in self.intensity if not isinstance(one, IntensityTransform)]
        if strange:
            raise GdmError(
                "an intensity transform of the augmentation cannot be used",
                found=type(strange[0]).__name__,
                expected="objects of a class derived from gdmunet.training.patches.intensity.IntensityTransform",
                remedy="derive the transform from gdmunet's class",
            )

    def draw(self, seed: np.random.SeedSequence, dimensions: int, move: bool) -> Change:
        """What happens to the patch of that seed.

        Parameters
        ----------
        seed
            Seed of the patch.
        dimensions
            Axes of the patch, 2 or 3.
        move
            Whether it is rotated and scaled.
        """
        draws = PatchDraws(int(seed.generate_state(1, np.uint64)[0]))
        matrix = self._matrix(draws, dimensions) if move else None
        flips = tuple(axis for axis in range(dimensions) if draws.chance(0.5)) if self.mirror else ()
        return Change(matrix, flips, int(seed.generate_state(2, np.uint64)[1]))

    def apply(self, sample: Sample, change: Change, patch_size: tuple[int, ...]) -> Sample:
        """The changed patch; the given sample is left alone.

        Parameters
        ----------
        sample
            Crop of ``change.crop_shape(patch_size)``, on the device that computes.
        change
            Its change, from `draw`.
        patch_size
            Size of the result; two or three numbers.
        """
        values, mask = sample.values, sample.mask
        if change.matrix is not None:
            values, mask = move(values, mask, change.matrix, patch_size)
        if change.flips:
            axes = [1 + axis for axis in change.flips]
            values, mask = values.flip(axes), mask.flip(axes)
        draws = PatchDraws(change.seed)
        for transform in self.intensity:
            if draws.chance(transform.probability):
                condition = transform.change(values[:-1].clone(), draws)
                values = torch.cat([condition, values[-1:]])
        return Sample(values, mask)

    def _matrix(self, draws: PatchDraws, dimensions: int) -> np.ndarray:
        limit = math.radians(self.rotation)
        angles = [draws.uniform((-limit, limit)) for _ in range(3 if dimensions == 3 else 1)]
        if self.in_plane:
            angles[1:] = [0.0 for _ in angles[1:]]
        return rotation_matrix(tuple(angles)) * draws.factor(self.scale)
