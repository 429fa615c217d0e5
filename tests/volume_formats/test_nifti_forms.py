"""The two places in a NIfTI header: compared when they are read, and written back as they were for every reader."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_case, read_volume, write_volume
from gdmunet.nifti_forms import NiftiForms
from gdmunet.plausibility.places import check_places
from gdmunet.volume_formats.nifti_header import read_header

MM = 5.5
ARRAY = np.random.default_rng(0).integers(0, 900, (6, 7, 8)).astype(np.int16)
PLACE = np.array([[-MM, 0, 0, 90.0], [0, -MM, 0, 90], [0, 0, MM, -90]])
MOVED = PLACE + np.array([[0, 0, 0, 10.0], [0, 0, 0, -20], [0, 0, 0, 15]])
TURNED = np.array([[MM, 0, 0, -80.5], [0, MM, 0, -80.5], [0, 0, MM, -90]])


def write(path, *, qform=PLACE, sform=PLACE, codes=(1, 1), pixdim=(MM, MM, MM), units=2):
    """A file with these affines (RAS, 3 x 4); the qform is a half turn about z or none."""
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(path), True)
    packed = path.name.endswith(".gz")
    data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into("<4f", data, 76, 1.0, *pixdim)
    data[123] = units
    struct.pack_into("<2h", data, 252, *codes)
    struct.pack_into("<6f", data, 256, 0, 0, float(qform[0, 0] < 0), *qform[:, 3])
    struct.pack_into("<12f", data, 280, *sform.ravel())
    path.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
    return path


def stored_place(path):
    """The bytes of the header that any reader takes a volume's place from."""
    data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    return data[76:92], data[123], data[252:328]


AGREEING = {
    "scanner": {},
    "aligned": {"codes": (1, 2)},
    "template": {"codes": (2, 4)},
    "qform_alone": {"codes": (1, 0), "sform": np.zeros((3, 4))},
    "sform_alone": {"codes": (0, 1), "qform": TURNED},
    "neither": {"codes": (0, 0), "qform": TURNED, "sform": MOVED},
    "no_unit": {"units": 0},
    "metres": {"units": 1, "pixdim": (MM / 1e3,) * 3, "qform": PLACE / 1e3, "sform": PLACE / 1e3},
    "micrometres": {"units": 3, "pixdim": (MM * 1e3,) * 3, "qform": PLACE * 1e3, "sform": PLACE * 1e3},
    "rounded": {"sform": PLACE + 0.01},
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", AGREEING)
def test_what_is_made_from_a_volume_lies_where_it_lies_for_every_reader(tmp_path, name, ending):
    source = write(tmp_path / f"in{ending}", **AGREEING[name])
    volume = read_volume(source)
    np.testing.assert_allclose(volume.geometry.spacing, MM, rtol=1e-6)
    write_volume(tmp_path / "out.nii.gz", volume.array + 1, volume.geometry)
    assert stored_place(tmp_path / "out.nii.gz") == stored_place(source)
    theirs, ours = (sitk.ReadImage(str(path)) for path in (source, tmp_path / "out.nii.gz"))
    assert (ours.GetOrigin(), ours.GetSpacing()) == (theirs.GetOrigin(), theirs.GetSpacing())
    assert ours.GetDirection() == theirs.GetDirection()


DISAGREEING = {
    "moved": ({"sform": MOVED, "codes": (1, 4)}, "26.9 mm apart"),
    "turned": ({"qform": TURNED, "codes": (1, 2)}, "mm apart"),
    "larger_voxels": ({"pixdim": (MM, MM, 2 * MM)}, "27.5 mm apart"),
    "sform_alone_of_other_voxels": ({"codes": (0, 1), "pixdim": (MM, MM, 2 * MM)}, "in pixdim"),
    "ten_times": ({"pixdim": (10 * MM - 6,) * 3}, "mm apart"),
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", DISAGREEING)
def test_two_places_are_told_apart_and_written_back_as_they_were(tmp_path, name, ending):
    entries, words = DISAGREEING[name]
    source = write(tmp_path / f"a{ending}", **entries)
    volume = read_volume(source)
    assert words in volume.geometry.forms.disagreement(volume.geometry.shape)
    write_volume(tmp_path / "out.nii.gz", volume.array + 1, volume.geometry)
    assert stored_place(tmp_path / "out.nii.gz") == stored_place(source)


@pytest.mark.parametrize("name", AGREEING)
def test_one_place_is_not_doubted(tmp_path, name):
    geometry = read_volume(write(tmp_path / "a.nii", **AGREEING[name])).geometry
    assert geometry.forms.disagreement(geometry.shape) is None


@pytest.mark.parametrize("role", ["condition", "target", "mask"])
def test_two_places_of_any_file_of_a_case_are_an_error_with_both(tmp_path, role):
    files = {name: write(tmp_path / name / "a.nii.gz") for name in ("condition", "target", "mask")}
    files[role] = write(tmp_path / role / "a.nii.gz", sform=MOVED, codes=(1, 4))
    volumes = read_case(Case("head", (files["condition"],), files["target"], files["mask"]))
    (found,) = check_places(volumes.two_places)
    assert (found.check, found.wrong, found.file) == ("forms", True, f"{role}/a.nii.gz")
    assert "26.9 mm apart" in found.found
    assert "nibabel" in str(found.error())
    assert "--accept forms" in str(found.error())


@pytest.mark.parametrize(("codes", "counts"), [((1, 1), "sform"), ((1, 4), "qform"), ((2, 2), "qform")])
def test_of_two_places_the_one_counts_that_the_page_names(tmp_path, codes, counts):
    geometry = read_volume(write(tmp_path / "a.nii", sform=MOVED, codes=codes)).geometry
    expected = {"qform": PLACE, "sform": MOVED}[counts][:, 3] * (-1, -1, 1)
    np.testing.assert_allclose(geometry.origin, expected, atol=1e-4)


def test_grids_that_differ_by_two_places_in_one_header_say_so(tmp_path):
    condition, target = write(tmp_path / "c/a.nii", sform=MOVED), write(tmp_path / "t/a.nii")
    with pytest.raises(GdmError, match="different grids") as caught:
        read_case(Case("head", (target,), condition))
    assert "two places in its NIfTI header" in caught.value.found


WRONG_SIZES = {
    "of_metres": ({"units": 1}, "5500"),
    "of_micrometres": ({"units": 3}, "0.0055"),
    "of_zero": ({"pixdim": (0.0, 0.0, 0.0)}, "0 x 0 x 0"),
    "below_zero": ({"pixdim": (-MM, MM, MM)}, "-5.5"),
    "a_thousand_times": ({"pixdim": (MM * 1e3,) * 3, "sform": PLACE * 1e3, "qform": PLACE * 1e3}, "5500"),
    "ten_times_in_all_forms": (
        {"pixdim": (MM * 10,) * 3, "sform": PLACE * 10, "qform": PLACE * 10}, "55 x 55 x 55"
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", WRONG_SIZES)
def test_voxels_that_no_scan_has_are_an_error(tmp_path, name, ending):
    entries, words = WRONG_SIZES[name]
    with pytest.raises(GdmError, match="voxel size cannot be right") as caught:
        read_volume(write(tmp_path / f"a{ending}", **entries), "head")
    error = caught.value
    assert words in error.found
    assert error.expected == "0.05 to 50 mm"
    assert (error.case, error.file) == ("head", tmp_path / f"a{ending}")
    assert "header" in error.remedy


def test_a_volume_of_three_metres_is_an_error(tmp_path):
    long = np.arange(4 * 4 * 70, dtype=np.int16).reshape(70, 4, 4)
    write_volume(tmp_path / "a.mha", long, Geometry(long.shape, (45.0, 1.0, 1.0)))
    with pytest.raises(GdmError, match="too large for a body") as caught:
        read_volume(tmp_path / "a.mha", "head")
    assert "3.15 m" in caught.value.found


@pytest.mark.parametrize(("units", "word"), [(4, "xyzt_units 4"), (7, "xyzt_units 7")])
def test_a_unit_that_the_standard_does_not_have_is_an_error(tmp_path, units, word):
    with pytest.raises(GdmError, match="unit of length") as caught:
        read_volume(write(tmp_path / "a.nii", units=units))
    assert word in caught.value.found


def test_a_grid_that_is_computed_has_no_place_of_another(tmp_path):
    """Forms stay with the grid that was read; equality of grids does not ask for them."""
    geometry = read_volume(write(tmp_path / "a.nii.gz", codes=(1, 2))).geometry
    assert isinstance(geometry.forms, NiftiForms)
    plain = Geometry(geometry.shape, geometry.spacing, geometry.origin, geometry.direction)
    assert plain == geometry
    write_volume(tmp_path / "b.nii", ARRAY, plain)
    assert read_header(tmp_path / "b.nii").forms.sform_code == 1
