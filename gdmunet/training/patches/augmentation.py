"""Augmentation of one patch with batchgenerators: space moves everything alike, intensity only the condition."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from batchgenerators.augmentations.spatial_transformations import augment_spatial
from batchgenerators.transforms.abstract_transforms import AbstractTransform, Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform


@dataclass(frozen=True)
class Sample:
    """One patch: condition (C, ...), target (1, ...), both network units; mask (1, ...) 0 or 1; all float32."""

    condition: np.ndarray
    target: np.ndarray
    mask: np.ndarray


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
        Transforms of the condition; None for none.
    """

    spatial_probability: float = 0.2
    rotation: float = 15.0
    in_plane: bool = False
    scale: tuple[float, float] = (0.85, 1.2)
    mirror: bool = True
    intensity: AbstractTransform | None = None

    def margin(self, patch_size: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the region to read so that no rotated and scaled patch looks over its edge, in voxels."""
        sine, cosine = math.sin(math.radians(self.rotation)), math.cos(math.radians(self.rotation))
        sizes = []
        for axis, size in enumerate(patch_size):
            turned = [float(size)]
            rotating = (
                range(len(patch_size)) if not self.in_plane else range(max(0, len(patch_size) - 2), len(patch_size))
            )
            if axis in rotating:
                turned += [size * cosine + patch_size[other] * sine for other in rotating if other != axis]
            sizes.append(math.ceil(max(turned) * self.scale[1]) if size > 1 else 1)
        return tuple(sizes)

    def apply(self, sample: Sample, patch_size: tuple[int, ...], move: bool, border: np.ndarray) -> Sample:
        """Augment one sample; draws from numpy's global random state, which the loader seeds for each sample.

        Parameters
        ----------
        sample
            Patch of size `margin(patch_size)` if `move`, else of `patch_size`.
        patch_size
            Size of the result; two or three numbers.
        move
            Whether the patch is rotated and scaled.
        border
            Value of every channel (conditions, then target) outside the volume: air for CT.
        """
        if move:
            sample = self._move(sample, patch_size, border)
        batch = {"data": sample.condition[None], "target": np.concatenate([sample.target, sample.mask])[None]}
        if self.mirror:
            stacked = np.concatenate([batch["data"], batch["target"]], axis=1)
            stacked = MirrorTransform(tuple(range(len(patch_size))), label_key="none")(data=stacked)["data"]
            channels = sample.condition.shape[0]
            batch = {"data": stacked[:, :channels], "target": stacked[:, channels:]}
        if self.intensity is not None:
            batch["data"] = self.intensity(data=np.ascontiguousarray(batch["data"]))["data"]
        moved = batch["target"][0]
        return Sample(*(np.ascontiguousarray(a, dtype=np.float32) for a in (batch["data"][0], moved[:1], moved[1:])))

    def _move(self, sample: Sample, patch_size: tuple[int, ...], border: np.ndarray) -> Sample:
        # batchgenerators fills with one value for all channels: shift every channel so that this value is its air.
        offset = border.reshape(-1, *([1] * len(patch_size)))
        data = np.concatenate([sample.condition, sample.target]) - offset
        limit = math.radians(self.rotation)
        still = (0.0, 0.0)
        three = len(patch_size) == 3
        moved, mask = augment_spatial(
            data[None],
            sample.mask[None],
            patch_size=patch_size,
            patch_center_dist_from_border=[s / 2 for s in data.shape[1:]],
            do_elastic_deform=False,
            do_rotation=True,
            angle_x=(-limit, limit),
            angle_y=still if three and self.in_plane else (-limit, limit),
            angle_z=still if three and self.in_plane else (-limit, limit),
            do_scale=True,
            scale=self.scale,
            border_mode_data="constant",
            border_cval_data=0,
            order_data=3 if min(patch_size) > 8 else 1,
            border_mode_seg="constant",
            border_cval_seg=0,
            order_seg=0,
            random_crop=False,
            p_el_per_sample=0,
            p_scale_per_sample=1,
            p_rot_per_sample=1,
        )
        moved = moved[0] + offset
        return Sample(moved[:-1], moved[-1:], (mask[0] > 0.5).astype(np.float32))


def mr_intensity() -> AbstractTransform:
    """Contrast changes, noise and blur for a z-scored MR-like condition, as nnU-Net's at half its strength."""
    return Compose(
        [
            GaussianNoiseTransform(p_per_sample=0.1, noise_variance=(0, 0.05)),
            GaussianBlurTransform((0.5, 1.0), different_sigma_per_channel=True, p_per_sample=0.1, p_per_channel=0.5),
            BrightnessMultiplicativeTransform(multiplier_range=(0.8, 1.2), p_per_sample=0.15),
            ContrastAugmentationTransform(contrast_range=(0.8, 1.2), p_per_sample=0.15),
            SimulateLowResolutionTransform(
                zoom_range=(0.6, 1), per_channel=True, p_per_channel=0.5, order_downsample=0, order_upsample=3,
                p_per_sample=0.1, ignore_axes=None,
            ),
            GammaTransform((0.8, 1.25), False, True, retain_stats=True, p_per_sample=0.2),
        ]
    )  # fmt: skip


def hu_intensity() -> AbstractTransform:
    """Slight noise alone for a condition in HU: its values are calibrated, and a change would teach a wrong scale."""
    return GaussianNoiseTransform(p_per_sample=0.1, noise_variance=(0, 0.005))
