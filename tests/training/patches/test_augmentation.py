import dataclasses

import numpy as np
import pytest
import torch
from batchgenerators.augmentations import color_augmentations, utils
from batchgenerators.augmentations.resample_augmentations import augment_linear_downsampling_scipy
from scipy import ndimage

from gdmunet.errors import GdmError
from gdmunet.training.patches.augmentation import UNCHANGED, Augmentation, Change, Sample
from gdmunet.training.patches.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    IntensityTransform,
    LowResolution,
    Noise,
    PatchDraws,
    gaussian_blur,
    hu_intensity,
    mr_intensity,
)
from gdmunet.training.patches.motion import crop_shape, move, rotation_matrix


def seeds(count):
    return [np.random.SeedSequence(number) for number in range(count)]


def image_of(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- space ------------------------------------------------------------------------------------------------------


def test_the_rotation_is_that_of_batchgenerators():
    coordinates = np.random.default_rng(0).normal(size=(3, 9))
    angles = (0.3, -0.2, 0.5)
    np.testing.assert_allclose(
        rotation_matrix(angles) @ coordinates, utils.rotate_coords_3d(coordinates, *angles), atol=1e-12
    )
    np.testing.assert_allclose(
        rotation_matrix((0.4,)) @ coordinates[:2], utils.rotate_coords_2d(coordinates[:2], 0.4), atol=1e-12
    )


@pytest.mark.parametrize("patch", [(20, 24, 28), (17, 40), (6, 32, 32)])
def test_a_crop_gives_the_patch_that_the_whole_volume_would_give(patch):
    """Interpolating in the crop differs from interpolating in the whole volume by less than 0.3 % of its deviation."""
    volume = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=[70] * len(patch)), 0.7)
    volume /= volume.std()
    for seed in seeds(4):
        matrix = Augmentation(rotation=20.0).draw(seed, len(patch), move=True).matrix
        size = crop_shape(matrix, patch)
        corner = [(extent - part) // 2 for extent, part in zip(volume.shape, size, strict=True)]
        crop = volume[tuple(slice(low, low + part) for low, part in zip(corner, size, strict=True))]
        values = torch.from_numpy(crop)[None].float()
        moved, _ = move(values, torch.ones_like(values), matrix, patch)
        offsets = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij"))
        centre = np.array([low + (part - 1) / 2 for low, part in zip(corner, size, strict=True)])
        places = np.einsum("ij,j...->i...", matrix, offsets) + centre.reshape(-1, *[1] * len(patch))
        expected = ndimage.map_coordinates(volume, places, order=3)
        np.testing.assert_allclose(moved[0].numpy(), expected, atol=3e-3)


def test_a_crop_holds_every_place_that_is_read():
    for patch in ((20, 24, 28), (5, 48, 48), (31, 40)):
        for seed in seeds(20):
            matrix = Augmentation(rotation=45.0).draw(seed, len(patch), move=True).matrix
            corners = np.stack(np.meshgrid(*[[-(n - 1) / 2, (n - 1) / 2] for n in patch], indexing="ij"))
            reach = np.abs(np.einsum("ij,j...->i...", matrix, corners)).reshape(len(patch), -1).max(axis=1)
            size = np.array(crop_shape(matrix, patch))
            assert ((size - 1) / 2 - reach >= 2).all()
            assert (size <= np.ceil(2 * reach) + 11).all()


def test_thick_slices_are_not_tilted():
    for seed in seeds(10):
        change = Augmentation(in_plane=True).draw(seed, 3, move=True)
        zoom = change.matrix[0, 0]
        assert change.matrix[0].tolist() == [zoom, 0, 0]
        assert change.matrix[:, 0].tolist() == [zoom, 0, 0]
        assert np.linalg.det(change.matrix) == pytest.approx(zoom**3)
        assert change.matrix[1, 2] != 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_changes_are_distributed_as_the_settings_say(dimensions):
    augmentation = Augmentation(rotation=15.0, scale=(0.85, 1.2))
    changes = [augmentation.draw(seed, dimensions, move=True) for seed in seeds(400)]
    zooms = np.array([np.linalg.det(change.matrix) ** (1 / dimensions) for change in changes])
    assert zooms.min() < 0.86
    assert zooms.max() > 1.19
    assert zooms.min() >= 0.85
    assert zooms.max() <= 1.2
    assert np.mean(zooms < 1) == pytest.approx(0.5, abs=0.08)
    angles = np.array([np.arcsin(c.matrix[-2, -1] / z) for c, z in zip(changes, zooms, strict=True)])
    assert np.degrees(np.abs(angles).max()) > 14
    assert np.degrees(angles).std() == pytest.approx(15 / np.sqrt(3), rel=0.15)
    for axis in range(dimensions):
        assert np.mean([axis in change.flips for change in changes]) == pytest.approx(0.5, abs=0.08)
    assert len({change.seed for change in changes}) == 400


def test_the_same_seed_gives_the_same_change():
    one, two = (Augmentation().draw(np.random.SeedSequence((3, 4, 5)), 3, move=True) for _ in range(2))
    assert np.array_equal(one.matrix, two.matrix)
    assert (one.flips, one.seed) == (two.flips, two.seed)


@pytest.mark.parametrize("shape", [(2, 6, 7, 8), (3, 9, 10)])
def test_a_mirrored_patch_is_mirrored_in_every_channel(shape):
    values, mask = image_of(*shape), (image_of(1, *shape[1:]) > 0).float()
    change = Change(flips=(0, len(shape) - 2))
    moved = Augmentation().apply(Sample(values, mask), change, shape[1:])
    axes = [1, len(shape) - 1]
    assert torch.equal(moved.values, values.flip(axes))
    assert torch.equal(moved.mask, mask.flip(axes))


# ---- intensity --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intensity", [mr_intensity(), hu_intensity()])
@pytest.mark.parametrize("shape", [(16, 15, 14), (20, 18)])
def test_intensity_changes_touch_the_condition_alone(intensity, shape):
    sample = Sample(image_of(3, *shape), torch.ones(1, *shape))
    kept = sample.values.clone()
    augmentation = Augmentation(mirror=False, intensity=intensity)
    changed = 0
    for seed in seeds(30):
        moved = augmentation.apply(sample, augmentation.draw(seed, len(shape), move=False), shape)
        assert torch.equal(moved.values[-1], kept[-1])
        assert torch.equal(sample.values, kept)
        assert torch.isfinite(moved.values).all()
        changed += not torch.equal(moved.values[:-1], kept[:-1])
    assert 0 < changed < 30


@pytest.mark.parametrize("transform", mr_intensity(), ids=lambda one: type(one).__name__)
def test_a_transform_changes_its_share_of_the_patches(transform):
    transform = dataclasses.replace(transform, probability=0.5)
    sample = Sample(image_of(4, 8, 9, 10), torch.ones(1, 8, 9, 10))
    augmentation = Augmentation(mirror=False, intensity=(transform,))
    changed = sum(
        not torch.equal(augmentation.apply(sample, Change(seed=seed), (8, 9, 10)).values, sample.values)
        for seed in range(200)
    )
    per_patch = 1 - 0.5**3 if hasattr(transform, "channel_probability") else 1
    assert changed / 200 == pytest.approx(0.5 * per_patch, abs=0.1)


def test_contrast_and_gamma_are_those_of_batchgenerators():
    image = image_of(2, 12, 13, 14)
    contrast = Contrast(1.0, (1.3, 1.3)).change(image.clone(), PatchDraws(0))
    expected = color_augmentations.augment_contrast(image.numpy().copy(), (1.3, 1.3))
    np.testing.assert_allclose(contrast.numpy(), expected, atol=1e-5)
    gamma = Gamma(1.0, (1.2, 1.2)).change(image.clone(), PatchDraws(0))
    expected = color_augmentations.augment_gamma(image.numpy().copy(), (1.2, 1.2), per_channel=True, retain_stats=True)
    np.testing.assert_allclose(gamma.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 13, 20), (3, 16), (30, 25)])
def test_the_blur_is_scipys(shape):
    image = image_of(*shape)
    for width in (0.5, 0.77, 1.0):
        np.testing.assert_allclose(
            gaussian_blur(image, width).numpy(), ndimage.gaussian_filter(image.numpy(), width), atol=1e-5
        )


@pytest.mark.parametrize("shape", [(12, 14, 20), (30, 25)])
def test_a_low_resolution_is_that_of_batchgenerators_with_linear_upsampling(shape):
    image = image_of(1, *shape)
    for zoom in (0.6, 0.73, 0.9):
        coarse = LowResolution(1.0, (zoom, zoom), channel_probability=1.0).change(image.clone(), PatchDraws(0))
        expected = augment_linear_downsampling_scipy(image.numpy().copy(), (zoom, zoom), order_downsample=0,
                                                     order_upsample=1)  # fmt: skip
        same = np.isclose(coarse.numpy(), expected, atol=1e-4)
        assert same.mean() > 0.98  # a place half-way between two voxels may take either


def test_noise_and_brightness_are_as_wide_as_drawn():
    zeros = torch.zeros(2, 40, 40, 40)
    noisy = Noise(1.0, (0.3, 0.3)).change(zeros.clone(), PatchDraws(1))
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)
    assert noisy.mean().item() == pytest.approx(0.0, abs=0.01)
    assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.02
    bright = [Brightness(1.0, (0.8, 1.2)).change(torch.ones(2, 1, 1), PatchDraws(seed)) for seed in range(300)]
    factors = torch.stack(bright).flatten(1)
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2
    assert abs(np.corrcoef(factors[:, 0], factors[:, 1])[0, 1]) < 0.15


def test_a_blurred_channel_is_smoother_and_the_others_are_kept():
    image = image_of(2, 20, 20, 20)
    blurred = [Blur(1.0).change(image.clone(), PatchDraws(seed)) for seed in range(20)]
    kept = [[torch.equal(one[channel], image[channel]) for channel in range(2)] for one in blurred]
    assert {True, False} == set(np.ravel(kept).tolist())
    assert all(
        one[c].std() < 0.8 * image[c].std() for one, k in zip(blurred, kept, strict=True) for c in (0, 1) if not k[c]
    )


def test_a_transform_of_your_own_is_applied_with_the_patchs_draws():
    class Shift(IntensityTransform):
        def change(self, condition, draws):
            return condition + draws.uniform((1, 2))

    augmentation = Augmentation(mirror=False, intensity=(Shift(1.0),))
    sample = Sample(torch.zeros(2, 4, 4, 4), torch.ones(1, 4, 4, 4))
    one, two = (augmentation.apply(sample, Change(seed=9), (4, 4, 4)).values for _ in range(2))
    assert torch.equal(one, two)
    assert 1 <= one[0, 0, 0, 0] <= 2
    assert one[1].abs().max() == 0


def test_what_is_not_a_transform_is_refused():
    with pytest.raises(GdmError, match="cannot be used"):
        Augmentation(intensity=(lambda data: data,))
    with pytest.raises(GdmError, match="share"):
        Noise(1.5)


def test_an_unchanged_patch_is_the_crop():
    sample = Sample(image_of(2, 4, 5, 6), torch.ones(1, 4, 5, 6))
    assert torch.equal(Augmentation().apply(sample, UNCHANGED, (4, 5, 6)).values, sample.values)
