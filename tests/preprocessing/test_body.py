"""The derived body: near the true one, without table, with the air inside, never empty."""

import numpy as np
import pytest
from scipy import ndimage

from gdmunet.conversion.phantoms import FIELD_OF_VIEW_MM, make_phantom
from gdmunet.errors import GdmError
from gdmunet.preprocessing.body import derive_body_mask, grow

SIZE = 48
SPACING = (FIELD_OF_VIEW_MM / SIZE,) * 3


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def ball(shape, radius, centre=None):
    centre = centre or [(n - 1) / 2 for n in shape]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return sum((grid[i] - centre[i]) ** 2 for i in range(3)) <= radius**2


@pytest.mark.parametrize("contrast", ["T1", "T2", "PD"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_body_of_a_phantom_is_found_in_any_contrast(contrast, seed):
    phantom = make_phantom(seed, SIZE, contrast)
    found = derive_body_mask(phantom.mr[None], ("MR",), SPACING)
    assert dice(found, phantom.mask) > 0.95


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("modality", ["CT", "CBCT"])
def test_the_body_of_a_phantom_is_found_in_ct(modality, seed):
    phantom = make_phantom(seed, SIZE)
    found = derive_body_mask(phantom.ct[None].astype(np.float32), (modality,), SPACING)
    assert dice(found, phantom.mask) > 0.95


def test_noise_as_of_a_few_view_reconstruction_changes_little():
    phantom = make_phantom(0, SIZE)
    noise = np.random.default_rng(0).normal(0, 250, phantom.ct.shape)
    streaky = (phantom.ct + ndimage.gaussian_filter(noise, 0.5)).astype(np.float32)
    clean = derive_body_mask(phantom.ct[None].astype(np.float32), ("CT",), SPACING)
    assert dice(derive_body_mask(streaky[None], ("CT",), SPACING), clean) > 0.97


def test_air_inside_is_body_and_the_table_is_not():
    shape = (24, 32, 32)
    array = np.full(shape, -1000.0, np.float32)
    body = np.broadcast_to(ball((1, 32, 32), 10, [0, 13, 16]), shape)
    array[body] = 40
    lung = np.broadcast_to(ball((1, 32, 32), 4, [0, 12, 16]), shape)
    array[lung] = -850  # open to the first and last slice, closed in every slice
    array[:, 26:27, 4:28] = 200  # a table plate of one voxel
    found = derive_body_mask(array[None], ("CT",), (3.0, 3.0, 3.0))
    assert found[lung].all()
    assert not found[:, 26:].any()
    assert dice(found, body) > 0.95


def test_a_body_cut_by_the_faces_of_the_volume_is_whole_there():
    array = np.full((1, 12, 14, 16), 40.0, np.float32)
    array[0, 4:8, 5:9, 6:10] = -900
    assert derive_body_mask(array, ("CT",), (2.0, 2.0, 2.0)).all()


def test_several_channels_give_their_union():
    left, right = ball((20, 20, 32), 6, [10, 10, 9]), ball((20, 20, 32), 6, [10, 10, 22])
    arrays = np.stack([left * 500.0, right * 500.0]).astype(np.float32)
    both = derive_body_mask(arrays, ("T1", "T2"), (3.0, 3.0, 3.0))
    one = derive_body_mask(arrays[:1], ("T1",), (3.0, 3.0, 3.0))
    assert dice(both, left | right) > 0.85
    assert dice(one, left) > 0.85


def test_two_large_pieces_are_both_body():
    legs = ball((20, 20, 32), 6, [10, 10, 8]) | ball((20, 20, 32), 5, [10, 10, 23])
    array = np.where(legs, 40.0, -1000.0).astype(np.float32)
    assert dice(derive_body_mask(array[None], ("CT",), (3.0, 3.0, 3.0)), legs) > 0.9


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (20.0, 1.0, 1.0), (5.0, 5.0, 5.0)])
def test_rules_hold_on_any_spacing(spacing):
    shape = tuple(max(3, round(64 / value)) for value in spacing)
    grid = np.stack(
        np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    )
    body = (grid**2).sum(0) < 24**2
    array = np.where(body, 30.0, -1000.0).astype(np.float32)
    assert dice(derive_body_mask(array[None], ("CT",), spacing), body) > 0.9


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_no_body_is_an_error_that_asks_for_masks(modality):
    array = np.full((1, 32, 32, 32), -1000.0, np.float32)
    array[0, 8, 8, 8] = 100
    with pytest.raises(GdmError, match="no body can be found") as caught:
        derive_body_mask(array, (modality,), (2.0, 2.0, 2.0))
    assert "give body masks" in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_growing_is_that_of_an_exact_distance_transform(seed):
    draws = np.random.default_rng(seed)
    mask = draws.random(tuple(draws.integers(1, 24, 3))) < draws.choice([0.02, 0.3, 0.9])
    mask.flat[0] = True
    spacing = tuple(float(draws.choice([2.0, 2.5, 5.5, draws.uniform(2, 7)])) for _ in range(3))
    for radius in (4.0, 6.0, 8.0):
        exact = ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius
        np.testing.assert_array_equal(grow(mask, radius, spacing), exact)


def test_nothing_grows_from_nothing():
    assert not grow(np.zeros((4, 5, 6), dtype=bool), 6.0, (2.0, 2.0, 2.0)).any()
