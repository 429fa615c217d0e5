"""Damage and NaN in NIfTI files that ITK reads without a word."""

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.volume_formats.itk import geometry_of, to_image
from gdmunet.volume_formats.nifti import FORMAT
from gdmunet.volume_formats.nifti_header import read_header


def write(path, array):
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_a_sound_file_is_clean(tmp_path, ending, kind):
    array = np.arange(60).reshape(3, 4, 5).astype(kind)
    voxels, _ = FORMAT.read(write(tmp_path / f"a{ending}", array))
    np.testing.assert_array_equal(voxels, array)
    assert voxels.dtype == kind
    assert voxels.flags.writeable


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_and_infinity_are_counted_though_itk_reads_zeros(tmp_path, ending, kind):
    array = np.ones((3, 4, 5), kind)
    array[0, 0, 0], array[1, 2, 3], array[2, 3, 4] = np.nan, np.inf, -np.inf
    path = write(tmp_path / f"a{ending}", array)
    with pytest.raises(GdmError, match="not numbers") as caught:
        FORMAT.read(path)
    assert caught.value.found == "3 voxels of NaN or infinity"
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).min() == 0


def big_endian(content):
    """The file in the other byte order; float32 voxels."""
    content = bytearray(content)
    for start, kind, count in ((0, "i4", 1), (40, "i2", 8), (70, "i2", 2), (76, "f4", 8), (108, "f4", 3)):
        size = count * int(kind[1])
        content[start : start + size] = np.frombuffer(content, "<" + kind, count, start).astype(">" + kind).tobytes()
    for start, kind, count in ((252, "i2", 2), (256, "f4", 18)):
        size = count * int(kind[1])
        content[start : start + size] = np.frombuffer(content, "<" + kind, count, start).astype(">" + kind).tobytes()
    content[352:] = np.frombuffer(content[352:], "<f4").astype(">f4").tobytes()
    return content


def test_big_endian_files_are_understood(tmp_path):
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    (tmp_path / "b.nii").write_bytes(big_endian(write(tmp_path / "a.nii", array).read_bytes()))
    voxels, geometry = FORMAT.read(tmp_path / "b.nii")
    assert voxels.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(voxels, array)
    assert geometry == FORMAT.read(tmp_path / "a.nii")[1]
    array[0, 0, 0] = np.nan
    (tmp_path / "b.nii").write_bytes(big_endian(write(tmp_path / "a.nii", array).read_bytes()))
    with pytest.raises(GdmError, match="not numbers"):
        FORMAT.read(tmp_path / "b.nii")


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


@pytest.mark.parametrize("kind", ALL_TYPES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_is_written_is_what_itk_writes(tmp_path, ending, kind):
    """Voxels to the bit, the place within the rounding of float32; every turn, also left-handed ones."""
    random = np.random.default_rng(1)
    array = random.integers(0, 99, (3, 4, 5)).astype(kind)
    for number in range(6):
        turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
        if number < 3:
            turn = np.diag(np.roll([1.0, -1.0, -1.0], number))  # half turns
        grid = Geometry(array.shape, (2.5, 1.3, 0.7), (-31.5, 17.25, 0.125), tuple(turn.ravel()))
        FORMAT.write(tmp_path / f"a{ending}", array, grid)
        sitk.WriteImage(to_image(array, grid), str(tmp_path / f"b{ending}"), True)
        ours, theirs = (sitk.ReadImage(str(tmp_path / f"{name}{ending}")) for name in "ab")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), array)
        assert ours.GetPixelID() == theirs.GetPixelID()
        np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-5)
        assert ours.GetSpacing() == theirs.GetSpacing()
        forms, expected = (read_header(tmp_path / f"{name}{ending}").forms for name in "ab")
        assert (forms.qform_code, forms.sform_code, forms.units) == (1, 1, expected.units)
        np.testing.assert_allclose(forms.qform, expected.qform, atol=1e-5)
        np.testing.assert_allclose(forms.sform, expected.sform, atol=1e-5)
        assert forms.distance(array.shape) < 1e-4


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
