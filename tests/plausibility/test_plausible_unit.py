"""A CT that is not in HU is an error, whatever the way it is wrong; a right one is not doubted, also without air."""

import numpy as np
import pytest
from plausible_samples import NOT_HU, ct, mr

from gdmunet.plausibility.cases import check_volume
from gdmunet.plausibility.measures import measure, sampled


def doubts(array: np.ndarray, word: str) -> list:
    array = array.astype(np.float32)
    sample = sampled(array)
    return check_volume(array.shape, sample, measure(array, sample, None, word), word, "the volume")


@pytest.mark.parametrize("word", ["CT", "CBCT"])
@pytest.mark.parametrize("kind", NOT_HU)
def test_values_that_are_not_hounsfield_units_are_an_error(kind, word):
    (found,) = doubts(NOT_HU[kind](ct()), word)
    assert (found.check, found.wrong) == ("hounsfield", True)
    assert "values" in found.found
    assert "Hounsfield" in found.expected
    assert "--accept hounsfield" in str(found.error())


@pytest.mark.parametrize("word", ["CT", "CBCT"])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a,
        lambda a: a + 60,  # a cone beam is badly calibrated
        lambda a: a + np.random.default_rng(1).normal(0, 150, a.shape),  # a low dose, or few views
        lambda a: np.where(a < -900, -1024, a),
        lambda a: np.pad(a, 4, constant_values=-2000),  # padding beyond the field of view
        lambda a: np.pad(a, 4, constant_values=-3024),
        lambda a: a[8:18, 8:18, 6:16],  # inside the body, without air
        lambda a: a.clip(-1000, 2000),
    ],
    ids=["plain", "shifted", "noisy", "cut", "padded", "padded deep", "crop", "clipped"],
)
def test_a_ct_is_not_doubted(change, word):
    assert doubts(change(ct()), word) == []


def abdomen(seed: int = 0) -> np.ndarray:
    """A body of fat, muscle and bone that fills its field of view to the sides; air lies in front of it and behind."""
    random = np.random.default_rng(seed)
    array = np.full((24, 32, 32), 45.0)
    array[:, :, :6] = array[:, :, -6:] = -100  # fat
    array[:, 20:23, 14:18] = 700  # a spine
    array[:, :7] = array[:, 28:] = -1000
    return array + random.normal(0, 14, array.shape)


@pytest.mark.parametrize("divisor", [2, 5, 10, 20])
def test_a_divided_ct_without_air_around_it_is_at_least_a_warning(divisor):
    assert doubts(abdomen(), "CT") == []
    (found,) = doubts(abdomen() / divisor, "CT")
    assert found.check == "hounsfield"
    assert "divided by" in found.found or "the air outside" in found.found


@pytest.mark.parametrize("divisor", [5, 10])
def test_a_divided_ct_of_a_head_alone_is_a_warning(divisor):
    """Its tissue is narrower than noise; air is a few voxels of the sinuses."""
    head = np.random.default_rng(2).normal(24, 6, (24, 24, 24))
    head[8:13, 8:13, 8:13] = -1000
    head[:3] = 900
    assert doubts(head, "CT") == []
    (found,) = doubts(head / divisor, "CT")
    assert (found.check, found.wrong) == ("hounsfield", False)
    assert "half of the voxels" in found.found


def test_fat_and_muscle_are_not_taken_for_a_divided_ct():
    """Their distance is that of air and tissue divided by 7, but bone is far beyond, or values lie between them."""
    thigh = abdomen()[:, 7:28]
    assert doubts(thigh, "CT") == []


@pytest.mark.parametrize("word", ["MR", "T1", "PET"])
def test_a_ct_in_a_channel_of_another_modality_is_an_error(word):
    (found,) = doubts(ct(), word)
    assert (found.check, found.wrong) == ("modality", True)


@pytest.mark.parametrize(
    "change", [lambda a: a, lambda a: a / 700, lambda a: (a - a.mean()) / a.std(), lambda a: a * 30, lambda a: -a]
)
def test_an_mr_of_any_scale_is_not_doubted_by_itself(change):
    assert doubts(change(mr()), "MR") == []


def test_a_word_with_ct_in_it_may_be_in_hounsfield_units():
    assert doubts(ct(), "LDCT") == []


@pytest.mark.parametrize("word", ["CT", "MR"])
def test_noise_is_not_an_image(word):
    (found,) = doubts(np.random.default_rng(0).normal(0, 300, (20, 20, 20)), word)
    assert (found.check, found.wrong) == ("structure", True)


@pytest.mark.parametrize("shape", [(3, 3, 3), (2, 2, 200), (4, 4, 400)])
def test_a_few_voxels_are_not_a_patient(shape):
    (found,) = doubts(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), "MR")
    assert (found.check, found.wrong) == ("size", True)


def test_a_flat_volume_of_one_slice_is_allowed():
    assert doubts(mr(shape=(3, 40, 40))[1:2], "MR") == []
