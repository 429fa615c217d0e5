"""Resampling against independent references, and what must hold on any grid."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize

from gdmunet.preprocessing import resampling
from gdmunet.preprocessing.resampling import resample, resample_mask, resampled_shape, thick_axis


def smooth(shape=(12, 17, 14), seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 1.5).astype(np.float32)


@pytest.mark.parametrize("order", [1, 3])
def test_enlarging_agrees_with_scipy(order):
    array = smooth()
    zoom = tuple(n / m for n, m in zip((20, 23, 31), array.shape, strict=True))
    expected = ndimage.zoom(array, zoom, order=order, mode="nearest", grid_mode=True)
    expected = np.clip(expected, array.min(), array.max())
    np.testing.assert_allclose(resample(array, (20, 23, 31), order), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 9, 7), (5, 30, 14)])
def test_shrinking_agrees_with_scikit_image(shape):
    array = smooth()
    expected = resize(array, shape, order=3, mode="edge", anti_aliasing=True, clip=True)
    np.testing.assert_allclose(resample(array, shape), expected, atol=1e-5)


def test_equal_shapes_are_the_identity_bit_for_bit():
    array = smooth()
    np.testing.assert_array_equal(resample(array, array.shape), array)
    mask = array > 0
    np.testing.assert_array_equal(resample_mask(mask, mask.shape), mask)


def test_a_constant_stays_constant():
    assert np.unique(resample(np.full((5, 6, 7), 3.25, np.float32), (9, 3, 7))) == 3.25


def test_values_never_leave_the_range_of_the_input():
    step = np.zeros((8, 8, 8), np.float32)
    step[:, 4:] = 1000.0
    result = resample(step, (8, 21, 8))
    assert (result.min(), result.max()) == (0.0, 1000.0)


def test_voxel_edges_coincide_so_the_centre_of_mass_stays():
    ball = np.zeros((15, 15, 15), np.float32)
    ball[4:8, 5:9, 6:11] = 1.0
    large = resample(ball, (30, 45, 20), order=1)
    before = (np.array(ndimage.center_of_mass(ball)) + 0.5) / ball.shape
    after = (np.array(ndimage.center_of_mass(large)) + 0.5) / large.shape
    np.testing.assert_allclose(after, before, atol=2e-3)


def test_shrinking_removes_what_the_coarse_grid_cannot_hold():
    stripes = np.zeros((4, 4, 64), np.float32)
    stripes[..., ::2] = 1.0
    coarse = resample(stripes, (4, 4, 12))
    assert coarse[..., 2:-2].std() < 0.02
    assert coarse.mean() == pytest.approx(0.5, abs=0.02)


def test_across_thick_slices_values_stay_between_their_two_slices():
    array = np.zeros((6, 4, 4), np.float32)
    array[2] = 100.0
    profile = resample(array, (18, 4, 4), order=3, thick=0)[:, 0, 0]
    expected = ndimage.zoom(array[:, 0, 0], 3, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(profile, expected, atol=1e-4)
    assert not np.allclose(resample(array, (18, 4, 4), order=3)[:, 0, 0], expected, atol=1)


@pytest.mark.parametrize("shape", [(1, 9, 8), (1, 1, 1), (2, 1, 5)])
def test_axes_of_one_voxel_work_both_ways(shape):
    array = smooth((4, 9, 8))
    small = resample(array, shape)
    assert small.shape == shape
    assert np.isfinite(resample(small, (4, 9, 8))).all()


def test_a_mask_comes_back_after_enlarging():
    mask = ndimage.binary_dilation(smooth() > 0.2)
    assert (resample_mask(resample_mask(mask, (24, 34, 28)), mask.shape) == mask).mean() > 0.99


def test_thick_axis_needs_more_than_three_times_the_others():
    assert thick_axis((3.1, 1.0, 1.0)) == 0
    assert thick_axis((1.0, 1.0, 3.1)) == 2
    assert thick_axis((3.0, 1.0, 1.0)) is None
    assert thick_axis((3.1, 3.1, 1.0)) is None
    assert thick_axis((1.0, 1.0, 1.0), (1.0, 20.0, 1.0)) == 1


def test_new_shape_keeps_the_extent_and_at_least_one_voxel():
    assert resampled_shape((10, 20, 3), (2.0, 1.0, 1.0), (1.0, 2.0, 50.0)) == (20, 10, 1)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("size", "new_size"), [(100, 83), (83, 100), (96, 40), (200, 201), (1, 4), (40, 1)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bands_give_what_the_whole_matrix_gives(axis, size, new_size, order):
    shape = [7, 6, 5]
    shape[axis] = size
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    bands = resampling._bands(size, new_size, order)
    weights = resampling._weights(size, new_size, order)
    exact = np.moveaxis(np.tensordot(weights, array.astype(np.float64), (1, axis)), 0, axis)
    np.testing.assert_allclose(resampling._multiply(array, bands, axis), exact, atol=2e-6)


@pytest.mark.parametrize(("size", "new_size"), [(512, 460), (460, 512), (512, 512 * 2)])
def test_the_work_for_a_voxel_does_not_grow_with_the_axis(size, new_size):
    """A band sees its neighbourhood alone, and no denormal weight, with which a processor is twenty times as slow."""
    bands = resampling._bands(size, new_size, 3)
    assert max(band.weights.shape[1] for band in bands) < 100
    nonzero = np.concatenate([band.weights[band.weights != 0] for band in bands])
    assert np.abs(nonzero).min() > np.finfo(np.float32).tiny
