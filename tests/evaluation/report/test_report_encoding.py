import base64
import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from gdmunet.evaluation.report.encoding import choose_scale, pack_mask, pack_nifti, pack_plane, unpack_plane
from gdmunet.geometry import Geometry
from gdmunet.volume_formats.itk import geometry_of


def test_planes_come_back_bit_for_bit():
    stored = np.random.default_rng(0).integers(-32768, 32768, (13, 7)).astype(np.int16)
    assert np.array_equal(unpack_plane(pack_plane(stored), 13, 7), stored)
    turned = stored[::-1, ::2]
    assert np.array_equal(unpack_plane(pack_plane(turned), 13, 4), turned)


def test_smooth_planes_become_small():
    noise = np.random.default_rng(0).normal(0, 400, (128, 128))
    stored = gaussian_filter(noise, 3).astype(np.int16)
    assert len(pack_plane(stored)) < 0.7 * len(base64.b64encode(zlib.compress(stored.tobytes(), 9)))


def test_masks_are_packed_with_the_first_pixel_in_the_highest_bit():
    mask = np.array([[True, False, False], [False, False, False], [False, True, True]])
    assert zlib.decompress(base64.b64decode(pack_mask(mask))) == bytes([0b10000001, 0b10000000])


def test_whole_hounsfield_units_are_stored_exactly():
    values = np.array([-1024.0, 0, 3071])
    scale = choose_scale(values)
    assert (scale.slope, scale.intercept) == (1, 0)
    assert scale.store(values).tolist() == [-1024, 0, 3071]


@pytest.mark.parametrize("values", [[0.0, 0.25, 1.0], [-5e4, 1e5], [7.5, 7.5]])
def test_other_values_come_back_within_a_step_of_their_range(values):
    array = np.array(values)
    scale = choose_scale(array)
    back = scale.slope * scale.store(array) + scale.intercept
    assert np.abs(back - array).max() <= scale.slope / 2 * 1.001
    assert scale.slope <= max(np.ptp(array), 1e-6) / 60_000


def test_values_beyond_16_bits_are_clipped_not_wrapped():
    assert choose_scale(np.array([0.0])).store(np.array([1e9, -1e9])).tolist() == [32767, -32768]


def test_a_packed_volume_is_the_same_for_itk(tmp_path: Path):
    array = np.random.default_rng(1).integers(-1000, 2000, (5, 6, 7)).astype(np.float32)
    oblique = (0.0, -1.0, 0.0, 0.8, 0.0, 0.6, -0.6, 0.0, 0.8)
    geometry = Geometry(array.shape, (3.0, 1.0, 2.0), (-10.0, 20.0, 30.0), oblique)
    scale = choose_scale(array)
    file = tmp_path / "volume.nii.gz"
    file.write_bytes(pack_nifti(scale.store(array), geometry, scale))
    image = sitk.ReadImage(str(file))
    assert np.array_equal(sitk.GetArrayFromImage(image), array)
    assert geometry_of(image).difference(geometry) is None
    assert len(gzip.decompress(file.read_bytes())) == 352 + 2 * array.size
