"""A mask that is not the body of its case: where it lies, and what it holds."""

import numpy as np
import pytest
from plausible_samples import body, ct, mr

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_mask, read_mask_values, write_volume
from gdmunet.plausibility.masks import MaskValues, check_place, check_values

CORNER = np.zeros(body().shape, dtype=bool)
CORNER[:4, :4, :4] = True
IMAGES = {"CT": ct(), "MR": mr()}


@pytest.mark.parametrize("word", IMAGES)
@pytest.mark.parametrize("mask", [~body(), CORNER], ids=["inverted", "corner"])
def test_a_mask_beside_the_body_is_an_error(mask, word):
    (found,) = check_place(mask, [IMAGES[word]], [word])
    assert (found.check, found.wrong) == ("mask_place", True)
    assert "% of the volume" in found.found


@pytest.mark.parametrize("word", IMAGES)
def test_a_mask_of_ones_is_a_warning(word):
    (found,) = check_place(np.ones(body().shape, dtype=bool), [IMAGES[word]], [word])
    assert (found.check, found.wrong) == ("mask_place", False)


@pytest.mark.parametrize("word", IMAGES)
def test_a_crumb_of_the_body_is_a_warning(word):
    mask = np.zeros(body().shape, dtype=bool)
    mask[13, 14, 12:15] = True
    (found,) = check_place(mask, [IMAGES[word]], [word])
    assert (found.check, found.wrong) == ("mask_place", False)


def test_a_mask_of_ones_on_a_crop_without_air_is_right():
    crop = ct()[8:18, 8:18, 6:16]
    assert check_place(np.ones(crop.shape, dtype=bool), [crop], ["CT"]) == []


@pytest.mark.parametrize("word", IMAGES)
@pytest.mark.parametrize(
    "mask", [body(), np.roll(body(), 2, 0), body() & (np.arange(26) > 12)[:, None, None]], ids=["body", "moved", "half"]
)
def test_a_body_mask_is_not_doubted(mask, word):
    assert check_place(mask, [IMAGES[word]], [word]) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_numbers_that_no_mask_has_are_an_error_in_every_format(tmp_path, ending, bad):
    mask = body().astype(np.float32)
    mask[13, 14, 12] = bad
    file = tmp_path / f"mask{ending}"
    write_volume(file, mask, Geometry(mask.shape, (2.0, 2.0, 2.0)))
    with pytest.raises(GdmError) as raised:
        read_mask(file, "p1")
    assert (raised.value.case, raised.value.file) == ("p1", file)
    assert raised.value.remedy


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_the_dust_of_an_interpolation_is_an_error(tmp_path, ending):
    mask = body().astype(np.float32)
    mask[0, 0, :5] = 1e-6
    file = tmp_path / f"mask{ending}"
    write_volume(file, mask, Geometry(mask.shape, (2.0, 2.0, 2.0)))
    (found,) = check_values(read_mask_values(file)[1])
    assert (found.check, found.wrong) == ("mask_values", True)
    assert "5 voxels" in found.found


def test_several_labels_are_a_warning():
    labels = body().astype(np.int16)
    labels[13] *= 3
    (found,) = check_values(MaskValues.of(labels))
    assert (found.check, found.wrong) == ("mask_values", False)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("one", [1, 255])
def test_zero_and_one_whole_number_are_not_doubted(kind, one):
    mask = (body() * (1 if kind is bool else one)).astype(kind)
    assert check_values(MaskValues.of(mask)) == []
