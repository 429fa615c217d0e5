"""Damage and NaN in NIfTI files that ITK reads without a word."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.volume_formats.itk import FORMAT, geometry_of
from gdmunet.volume_formats.nifti import read_nifti


def write(path, array):
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_a_sound_file_is_clean(tmp_path, ending, kind):
    array = np.arange(60).reshape(3, 4, 5).astype(kind)
    scan = read_nifti(write(tmp_path / f"a{ending}", array))
    assert (scan.damage, scan.not_finite) == (None, 0)
    np.testing.assert_array_equal(scan.voxels, array)
    assert scan.voxels.dtype == kind
    assert scan.voxels.flags.writeable


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_and_infinity_are_counted_though_itk_reads_zeros(tmp_path, ending, kind):
    array = np.ones((3, 4, 5), kind)
    array[0, 0, 0], array[1, 2, 3], array[2, 3, 4] = np.nan, np.inf, -np.inf
    path = write(tmp_path / f"a{ending}", array)
    assert read_nifti(path).not_finite == 3
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).min() == 0


def test_big_endian_files_are_understood(tmp_path):
    content = bytearray(write(tmp_path / "a.nii", np.ones((3, 4, 5), np.float32)).read_bytes())
    for start, kind in ((0, "i4"), (108, "f4"), (112, "f4"), (116, "f4")):
        content[start : start + 4] = np.frombuffer(content, "<" + kind, 1, start).astype(">" + kind).tobytes()
    for start, count in ((40, 8), (70, 2)):
        swapped = np.frombuffer(content, "<i2", count, start).astype(">i2").tobytes()
        content[start : start + 2 * count] = swapped
    content[352:] = np.array([np.nan] + [1.0] * 59, ">f4").tobytes()
    (tmp_path / "b.nii").write_bytes(content)
    scan = read_nifti(tmp_path / "b.nii")
    assert (scan.damage, scan.not_finite) == (None, 1)
    assert scan.voxels.dtype == np.dtype(np.float32)
    assert scan.voxels[0, 0, 1] == 1


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_file_cut_short_is_damaged(tmp_path, kind):
    array = np.random.default_rng(0).normal(0, 99, (8, 8, 8)).astype(kind)
    plain = write(tmp_path / "a.nii", array).read_bytes()
    packed = write(tmp_path / "b.nii.gz", array).read_bytes()
    (tmp_path / "a.nii").write_bytes(plain[:-7])
    (tmp_path / "b.nii.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(plain[:-7]))  # sound gzip of a file cut short
    for name in ("a.nii", "b.nii.gz", "c.nii.gz"):
        assert read_nifti(tmp_path / name).damage, name


def test_a_flipped_byte_fails_the_checksum(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(0, 99, (8, 8, 8)).astype(np.float32))
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in the stored checksum
    path.write_bytes(content)
    assert read_nifti(path).damage


ALL_TYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, np.float32, np.float64]


def read_by_itk(path):
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image), geometry_of(image)


@pytest.mark.parametrize("kind", ALL_TYPES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_is_read_is_what_itk_reads(tmp_path, ending, kind):
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 99, (3, 4, 5)).astype(kind))
    image.SetSpacing((0.7, 1.3, 2.5))
    image.SetOrigin((-31.5, 17.25, 0.125))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    array, geometry = FORMAT.read(tmp_path / f"a{ending}")
    expected, grid = read_by_itk(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    assert geometry == grid


@pytest.mark.parametrize(
    ("slope", "intercept"), [(2.0, -1024.0), (1.0, -1024.0), (0.0, 0.0), (0.0, 7.0), (np.nan, 0.0)]
)
def test_a_scale_of_the_header_is_applied_as_itk_does(tmp_path, slope, intercept):
    content = bytearray(write(tmp_path / "a.nii", np.arange(60).reshape(3, 4, 5).astype(np.int16)).read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    (tmp_path / "b.nii").write_bytes(content)
    array, geometry = FORMAT.read(tmp_path / "b.nii")
    expected, grid = read_by_itk(tmp_path / "b.nii")
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    assert geometry == grid


def test_a_sound_file_is_unpacked_once(tmp_path, monkeypatch):
    """The check unpacks a file already; ITK must not do it again."""
    path = write(tmp_path / "a.nii.gz", np.arange(60).reshape(3, 4, 5).astype(np.int16))

    def again(_reader):
        raise AssertionError("unpacked a second time")

    monkeypatch.setattr(sitk.ImageFileReader, "Execute", again)
    assert FORMAT.read(path)[0].shape == (3, 4, 5)


def test_a_header_that_asks_for_more_than_a_file_can_hold_is_damage(tmp_path):
    content = bytearray(write(tmp_path / "a.nii", np.ones((3, 4, 5), np.int16)).read_bytes())
    content[42:48] = np.array([32000, 32000, 32000], "<i2").tobytes()
    (tmp_path / "b.nii").write_bytes(content)
    assert "cannot hold" in read_nifti(tmp_path / "b.nii").damage
