"""Damage and NaN in NIfTI files that ITK reads without a word."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.volume_formats.nifti import NiftiScan, scan_nifti


def write(path, array):
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_a_sound_file_is_clean(tmp_path, ending, kind):
    path = write(tmp_path / f"a{ending}", np.arange(60).reshape(3, 4, 5).astype(kind))
    assert scan_nifti(path) == NiftiScan()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_and_infinity_are_counted_though_itk_reads_zeros(tmp_path, ending, kind):
    array = np.ones((3, 4, 5), kind)
    array[0, 0, 0], array[1, 2, 3], array[2, 3, 4] = np.nan, np.inf, -np.inf
    path = write(tmp_path / f"a{ending}", array)
    assert scan_nifti(path).not_finite == 3
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).min() == 0


def test_big_endian_files_are_understood(tmp_path):
    content = bytearray(write(tmp_path / "a.nii", np.ones((3, 4, 5), np.float32)).read_bytes())
    for start, kind in ((0, "i4"), (108, "f4")):
        content[start : start + 4] = np.frombuffer(content, "<" + kind, 1, start).astype(">" + kind).tobytes()
    for start, count in ((40, 8), (70, 2)):
        swapped = np.frombuffer(content, "<i2", count, start).astype(">i2").tobytes()
        content[start : start + 2 * count] = swapped
    content[352:] = np.array([np.nan] + [1.0] * 59, ">f4").tobytes()
    (tmp_path / "b.nii").write_bytes(content)
    assert scan_nifti(tmp_path / "b.nii") == NiftiScan(not_finite=1)


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_file_cut_short_is_damaged(tmp_path, kind):
    array = np.random.default_rng(0).normal(0, 99, (8, 8, 8)).astype(kind)
    plain = write(tmp_path / "a.nii", array).read_bytes()
    packed = write(tmp_path / "b.nii.gz", array).read_bytes()
    (tmp_path / "a.nii").write_bytes(plain[:-7])
    (tmp_path / "b.nii.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(plain[:-7]))  # sound gzip of a file cut short
    for name in ("a.nii", "b.nii.gz", "c.nii.gz"):
        assert scan_nifti(tmp_path / name).damage, name


def test_a_flipped_byte_fails_the_checksum(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(0, 99, (8, 8, 8)).astype(np.float32))
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in the stored checksum
    path.write_bytes(content)
    assert scan_nifti(path).damage
