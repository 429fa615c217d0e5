"""Volumes in and out: exact geometry, every number type, and errors that name case, file, finding and remedy."""

import errno
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_case, read_mask, read_volume, write_volume
from gdmunet.volume_formats.itk import geometry_of, to_image
from gdmunet.volume_formats.table import format_of

OBLIQUE = tuple(np.linalg.qr([[9.0, 2.0, 1.0], [-2.0, 8.0, 3.0], [1.0, -3.0, 9.0]])[0].ravel())
GEOMETRY = Geometry((3, 4, 5), (2.5, 1.0, 0.75), (10.0, -20.0, 30.0), OBLIQUE)


def array(kind=np.int16):
    return np.arange(60).reshape(3, 4, 5).astype(kind)


def check_error(error, *parts):
    text = str(error.value)
    for part in ("case: head", "file:", "found:", "remedy:", *parts):
        assert part in text, text


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd", ".mhd"])
def test_a_volume_comes_back_with_its_geometry(tmp_path, ending):
    path = tmp_path / "folder" / f"a{ending}"
    write_volume(path, array(), GEOMETRY)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array())
    assert volume.geometry.difference(GEOMETRY) is None
    assert not list(path.parent.glob(".tmp-*"))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_number_type_is_read_as_float32(tmp_path, kind):
    sitk.WriteImage(sitk.GetImageFromArray(array(kind)), str(tmp_path / "a.nii.gz"))
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array())


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_an_error(tmp_path, ending, bad):
    values = array(np.float32)
    values[1, 2, 3] = bad
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"a{ending}"))
    with pytest.raises(GdmError, match="not numbers") as caught:
        read_volume(tmp_path / f"a{ending}", "head")
    check_error(caught, "1 voxel of NaN or infinity", f"a{ending}")


def test_an_empty_volume_is_an_error(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), 7, np.int16)), str(tmp_path / "a.nii.gz"))
    with pytest.raises(GdmError, match="empty") as caught:
        read_volume(tmp_path / "a.nii.gz", "head")
    check_error(caught, "every voxel is 7")


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 5)])
def test_only_three_axes_are_a_volume(tmp_path, shape):
    values = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=False), str(tmp_path / "a.nii.gz"))
    with pytest.raises(GdmError, match="not a three-dimensional volume") as caught:
        read_volume(tmp_path / "a.nii.gz", "head")
    check_error(caught, "split a 4D series")


def test_several_values_a_voxel_are_an_error(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5, 2), np.float32), isVector=True), str(tmp_path / "a.mha"))
    with pytest.raises(GdmError, match="one value per voxel"):
        read_volume(tmp_path / "a.mha", "head")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_a_truncated_file_is_an_error(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    noise = np.random.default_rng(0).normal(0, 500, (8, 9, 10)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path), False)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(GdmError, match="truncated") as caught:
        read_volume(path, "head")
    check_error(caught, str(path))


@pytest.mark.parametrize("content", [b"", b"this is not an image"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_an_unreadable_file_is_an_error(tmp_path, ending, content):
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(GdmError, match=r"cannot be read|damaged") as caught:
        read_volume(tmp_path / f"a{ending}", "head")
    check_error(caught)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(GdmError, match="missing") as caught:
        read_volume(tmp_path / "a.nii.gz", "head")
    assert "case: head" in str(caught.value)


def test_a_direction_that_is_not_orthonormal_is_an_error(tmp_path):
    write_volume(tmp_path / "a.mha", array(), Geometry((3, 4, 5), (1.0, 1.0, 1.0)))
    content = (tmp_path / "a.mha").read_bytes()
    sheared = content.replace(b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 1 1 0 0 0 1")
    assert sheared != content
    (tmp_path / "a.mha").write_bytes(sheared)
    with pytest.raises(GdmError, match="not orthonormal") as caught:
        read_volume(tmp_path / "a.mha", "head")
    assert "case: head" in str(caught.value)
    assert "resample" in str(caught.value)


def test_a_mask_without_a_voxel_is_an_error(tmp_path):
    write_volume(tmp_path / "m.nii.gz", np.zeros((3, 4, 5), np.uint8), GEOMETRY)
    with pytest.raises(GdmError, match="no voxel") as caught:
        read_mask(tmp_path / "m.nii.gz", "head")
    check_error(caught, "all zero")


def test_every_positive_label_is_body(tmp_path):
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[0, 0, 0], labels[1, 1, 1] = 1, 7
    write_volume(tmp_path / "m.nii.gz", labels, GEOMETRY)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz").array, labels > 0)


@pytest.fixture
def case(tmp_path):
    paths = [tmp_path / name for name in ("head_0000.nii.gz", "head_0001.nii.gz", "target.nii.gz", "mask.nii.gz")]
    for path in paths:
        write_volume(path, array(), GEOMETRY)
    return Case("head", tuple(paths[:2]), paths[2], paths[3])


def test_a_case_is_read_whole(case):
    volumes = read_case(case)
    assert volumes.conditions.shape == (2, 3, 4, 5)
    assert volumes.target.shape == (3, 4, 5)
    assert volumes.mask.dtype == bool
    assert volumes.geometry.difference(GEOMETRY) is None


@pytest.mark.parametrize("which", ["head_0001.nii.gz", "target.nii.gz", "mask.nii.gz"])
@pytest.mark.parametrize(
    ("geometry", "word"),
    [
        (Geometry((3, 4, 6), GEOMETRY.spacing, GEOMETRY.origin, OBLIQUE), "shape"),
        (Geometry((3, 4, 5), (2.5, 1.0, 0.8), GEOMETRY.origin, OBLIQUE), "spacing"),
        (Geometry((3, 4, 5), GEOMETRY.spacing, (10.0, -20.0, 31.0), OBLIQUE), "origin"),
        (Geometry((3, 4, 5), GEOMETRY.spacing, GEOMETRY.origin), "direction"),
    ],
)
def test_files_on_different_grids_are_an_error(case, tmp_path, which, geometry, word):
    values = np.arange(np.prod(geometry.shape)).reshape(geometry.shape).astype(np.int16)
    write_volume(tmp_path / which, values, geometry)
    with pytest.raises(GdmError, match="different grids") as caught:
        read_case(case)
    check_error(caught, which, word)


def test_rounding_in_headers_is_no_other_grid(case, tmp_path):
    nudged = Geometry((3, 4, 5), GEOMETRY.spacing, (10.0001, -20.0, 30.0), OBLIQUE)
    write_volume(tmp_path / "target.nii.gz", array(), nudged)
    assert read_case(case).target is not None


@pytest.mark.parametrize("ending", [".nii.gz", ".mhd"])
def test_a_full_disk_leaves_the_old_volume(tmp_path, monkeypatch, ending):
    path = tmp_path / f"a{ending}"
    write_volume(path, array(), GEOMETRY)

    def full(_format, path, *_volume):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(format_of(path)), "write", full)
    with pytest.raises(GdmError, match="No space left") as caught:
        write_volume(path, array() + 1, GEOMETRY)
    assert str(path) in str(caught.value)
    np.testing.assert_array_equal(read_volume(path).array, array())
    assert not list(tmp_path.glob(".tmp-*"))


def test_array_and_geometry_must_agree():
    with pytest.raises(GdmError, match="differ in shape"):
        to_image(np.zeros((3, 4, 4)), GEOMETRY)


def test_a_header_without_its_data_file_is_an_error(tmp_path):
    write_volume(tmp_path / "a.mhd", array(), GEOMETRY)
    for path in tmp_path.glob("a.*raw"):
        path.unlink()
    with pytest.raises(GdmError) as caught:
        read_volume(tmp_path / "a.mhd", "head")
    assert "case: head" in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux alone has /proc")
def test_a_volume_in_a_folder_that_cannot_be_made_does_not_blame_the_disk():
    with pytest.raises(GdmError, match="cannot make the folder") as caught:
        write_volume(Path("/proc/x/a.nii.gz"), np.zeros((2, 2, 2), np.float32), Geometry((2, 2, 2), (1.0, 1.0, 1.0)))
    assert "disk space" not in str(caught.value)


def test_a_grid_that_differs_says_both_as_facts(tmp_path):
    for name, shape in (("a_0000", (2, 3, 4)), ("a", (2, 3, 5))):
        write_volume(
            tmp_path / f"{name}.nii",
            np.arange(np.prod(shape), dtype=np.float32).reshape(shape),
            Geometry(shape, (1.0, 1.0, 1.0)),
        )
    with pytest.raises(GdmError, match="different grids") as caught:
        read_case(Case("a", (tmp_path / "a_0000.nii",), tmp_path / "a.nii"))
    error = caught.value
    assert error.found == "shape (2, 3, 5) voxels (z, y, x)"
    assert error.expected == "shape (2, 3, 4) voxels (z, y, x), as a_0000.nii"


def test_a_direction_that_is_sheared_keeps_its_facts_and_names_the_file():
    image = to_image(np.zeros((2, 2, 2), np.float32), Geometry((2, 2, 2), (1.0, 1.0, 1.0)))
    image.SetSpacing((1.0, 1.0, 1.0))
    image.SetDirection((1, 0.5, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(GdmError, match="not orthonormal") as caught:
        geometry_of(image)
    error = caught.value.located(case="a", file=Path("a.nii"))
    assert (error.case, error.file, error.expected) == ("a", Path("a.nii"), "three perpendicular unit vectors")
    assert str(error).splitlines()[-1].startswith("  remedy: ")
