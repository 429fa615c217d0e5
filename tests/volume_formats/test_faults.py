"""A check belongs to the reader, not to an ending: every fault in every format, as image, mask and prediction."""

import numpy as np
import pytest
import SimpleITK as sitk
from volume_faults import EVERY_FAULT, GRID, SHAPE, write_with_fault

from gdmunet.cli.evaluate import main as evaluate
from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.imageio import read_case, read_volume, write_volume
from gdmunet.volume_formats.table import FILE_ENDINGS, format_of

NOISE = np.random.default_rng(0).normal(0, 300, SHAPE).astype(np.float32)


def damaged_case(folder, role, ending, fault):
    """A case whose file of this role has the fault, and that file."""
    folder.mkdir(exist_ok=True)
    for name, array in (("image", NOISE), ("prediction", NOISE), ("mask", (NOISE > 0).astype(np.float32))):
        if name != role:
            write_volume(folder / name / f"a{ending}", array, GRID)
        else:
            write_with_fault(folder / name / f"a{ending}", array, fault, ending)
    return folder / role / f"a{ending}"


def check(error, file):
    assert error.case == "a"
    assert str(file) == str(error.file)
    assert error.found is not None, error
    assert error.remedy, error
    assert len(str(error)) < 2000, error


@pytest.mark.parametrize("role", ["image", "mask"])
@pytest.mark.parametrize(("ending", "fault"), EVERY_FAULT)
def test_a_fault_is_an_error_that_names_case_and_file(tmp_path, ending, fault, role):
    file = damaged_case(tmp_path / "case", role, ending, fault)
    paths = {name: tmp_path / "case" / name / f"a{ending}" for name in ("image", "mask")}
    with pytest.raises(GdmError) as caught:
        read_case(Case("a", (paths["image"],), mask=paths["mask"]))
    check(caught.value, file)


@pytest.mark.parametrize(("ending", "fault"), EVERY_FAULT)
def test_a_prediction_with_a_fault_is_not_scored(tmp_path, ending, fault, capsys):
    file = damaged_case(tmp_path / "case", "prediction", ending, fault)
    words = ["-ref", tmp_path / "case" / "image", "-pred", tmp_path / "case" / "prediction", "--no_pbar"]
    assert evaluate([str(word) for word in words]) == 1
    printed = capsys.readouterr().err
    assert "case: a" in printed, printed
    assert file.name in printed, printed
    assert not (tmp_path / "case" / "prediction" / "summary.json").exists()


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_a_packed_file_may_end_with_a_little_more(tmp_path, ending):
    """Some writers pad; less than a plane of surplus bytes changes no voxel."""
    path = tmp_path / f"a{ending}"
    write_volume(path, NOISE, GRID)
    last = format_of(path).parts(path)[-1]
    last.write_bytes(last.read_bytes() + bytes(8))
    np.testing.assert_array_equal(read_volume(path).array, NOISE)


TURNED = tuple(np.linalg.qr([[9.0, 2.0, 1.0], [-2.0, 8.0, 3.0], [1.0, -3.0, 9.0]])[0].ravel())
KINDS = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, np.float32, np.float64]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_what_is_read_is_what_itk_reads(tmp_path, ending, packed, kind):
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 99, (3, 4, 5)).astype(kind))
    image.SetSpacing((0.7, 1.3, 2.5))
    image.SetOrigin((-31.5, 17.25, 0.125))
    image.SetDirection(TURNED)
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"), packed)
    array, geometry = format_of(tmp_path / f"a{ending}").read(tmp_path / f"a{ending}")
    theirs = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(theirs))
    assert array.dtype == kind
    assert (geometry.spacing, geometry.origin) == (theirs.GetSpacing()[::-1], theirs.GetOrigin())
    np.testing.assert_allclose(geometry.direction, theirs.GetDirection(), atol=1e-15)


HEADERS = {
    "other_space": (".nrrd", "space: left-posterior-superior", "space: right-anterior-superior"),
    "short_space": (".nrrd", "space: left-posterior-superior", "space: LAS"),
    "left_anterior": (".nrrd", "space: left-posterior-superior", "space: left-anterior-superior"),
    "big_endian": (".nrrd", "endian: little", "endian: big"),
    "comment_and_key": (".nrrd", "endian: little", "# note\nendian: little\nkey:=value with: colon"),
    "no_space": (".nrrd", "space: left-posterior-superior\n", "spacings: 2.5 1.5 0.5\n"),
    "other_names": (".mha", "ElementSpacing", "ElementSize"),
    "position": (".mha", "Offset", "Position"),
    "big_endian_meta": (".mha", "BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB = True"),
    "more_keys": (".mha", "NDims = 3", "NDims = 3\nComment = a scan"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_other_writers_are_read_as_itk_reads_them(tmp_path, name):
    ending, old, new = HEADERS[name]
    image = sitk.GetImageFromArray(np.arange(60).reshape(3, 4, 5).astype(np.int16))
    image.SetSpacing((0.7, 1.3, 2.5))
    image.SetOrigin((-31.5, 17.25, 0.125))
    image.SetDirection(TURNED)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(image, str(path), False)
    data = path.read_bytes()
    assert old.encode() in data
    data = data.replace(old.encode(), new.encode())
    if name == "no_space":
        lines = data.split(b"\n\n", 1)
        head = [line for line in lines[0].split(b"\n") if not line.startswith((b"space ", b"kinds"))]
        data = b"\n".join(head) + b"\n\n" + lines[1]
    path.write_bytes(data)
    array, geometry = format_of(path).read(path)
    theirs = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(geometry.origin, theirs.GetOrigin(), atol=1e-12)
    np.testing.assert_allclose(geometry.spacing[::-1], theirs.GetSpacing(), rtol=1e-14)
    np.testing.assert_allclose(geometry.direction, theirs.GetDirection(), atol=1e-14)
