"""Series of scanners become volumes: values, order, geometry; an irregular grid is refused or resampled."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_samples import NAME, PATIENT_ID, make_enhanced, make_series, make_stored

from gdmunet.dicom.reading import read_series
from gdmunet.dicom.series import choose_series, scan_series
from gdmunet.errors import GdmError

OBLIQUE = tuple(np.linalg.qr(np.array([[1.0, 0.2, -0.1], [0.1, 1.0, 0.3], [0.2, 0.1, 1.0]]))[0][:, :2].T.ravel())


def read(folder, fix=False, series=None):
    return read_series(choose_series(scan_series(folder), series), fix)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0), OBLIQUE])
def test_a_series_is_read_as_itk_reads_it(tmp_path, orientation):
    """ITK's own series reader is the independent reference: it sorts by position as well."""
    make_series(tmp_path, make_stored(), orientation=orientation)
    found = read(tmp_path)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    expected = sitk.ReadImage(names)
    assert np.array_equal(found.volume.array, sitk.GetArrayFromImage(expected))
    geometry = found.volume.geometry
    assert np.allclose(geometry.spacing[::-1], expected.GetSpacing(), atol=1e-6)
    assert np.allclose(geometry.origin, expected.GetOrigin(), atol=1e-6)
    assert np.allclose(geometry.direction, expected.GetDirection(), atol=1e-6)
    assert found.repairs == ()


def test_every_slice_has_its_own_slope_and_intercept(tmp_path):
    def change(image, index):
        image.RescaleSlope, image.RescaleIntercept = 0.5 + index, -1000 + 10 * index

    stored = make_stored()
    make_series(tmp_path, stored, change=change)
    index = np.arange(len(stored))[:, None, None]
    assert np.array_equal(read(tmp_path).volume.array, (stored * (0.5 + index) - 1000 + 10 * index).astype(np.float32))


@pytest.mark.parametrize(("value", "limit", "hidden"), [(-2000, None, [-2000]), (-2000, -1990, [-2000, -1995, -1990])])
def test_padding_becomes_the_lowest_value(tmp_path, value, limit, hidden):
    def change(image, _index):
        image.PixelPaddingValue = value
        if limit is not None:
            image.PixelPaddingRangeLimit = limit

    stored = make_stored()
    expected = stored - 1024.0
    stored[0, 0, : len(hidden)] = hidden
    expected[0, 0, : len(hidden)] = -1024
    make_series(tmp_path, stored, change=change)
    assert np.array_equal(read(tmp_path).volume.array, expected)


def test_padding_above_all_values_and_written_unsigned_is_found(tmp_path):
    def change(image, _index):
        image.add_new("PixelPaddingValue", "US", 63536)  # the bits of -2000

    stored = make_stored()
    stored[:, :3] = -2000
    make_series(tmp_path, stored, change=change)
    array = read(tmp_path).volume.array
    assert (array[:, :3] == min(-1024, array[:, 3:].min())).all()
    assert array.min() >= -1024


def test_a_padding_of_zero_changes_no_mr(tmp_path):
    stored = make_stored() + 7
    stored[:, 0] = 0
    make_series(tmp_path, stored, modality="MR", change=lambda image, _: setattr(image, "PixelPaddingValue", 0))
    assert np.array_equal(read(tmp_path).volume.array, stored)


def test_several_series_are_listed_and_chosen_by_number_or_uid(tmp_path):
    first, second = make_stored(seed=1), make_stored(seed=2)
    make_series(tmp_path / "a", first, number=3)
    uid = make_series(tmp_path / "b", second, number=4, description="Bone")
    with pytest.raises(GdmError, match="several DICOM series") as caught:
        read(tmp_path)
    text = str(caught.value)
    assert "3 CT" in text
    assert "4 CT" in text
    assert uid in text
    assert "Bone" in text
    assert "--series" in text
    assert "Doe" not in text
    assert PATIENT_ID not in text
    assert np.array_equal(read(tmp_path, series="3").volume.array, first - 1024.0)
    assert np.array_equal(read(tmp_path, series=uid).volume.array, second - 1024.0)
    with pytest.raises(GdmError, match="no DICOM series 9"):
        read(tmp_path, series="9")


def test_a_number_that_two_series_have_is_refused(tmp_path):
    for name in "ab":
        make_series(tmp_path / name, make_stored())
    with pytest.raises(GdmError, match="several DICOM series have the number 3"):
        read(tmp_path, series="3")


def test_a_localizer_and_other_files_do_not_hide_the_volume(tmp_path):
    stored = make_stored()
    make_series(tmp_path, stored)
    scout = lambda image, _: setattr(image, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])  # noqa: E731
    make_series(tmp_path / "scout", stored[:1], number=1, change=scout)
    (tmp_path / "readme.txt").write_text("not DICOM")
    assert np.array_equal(read(tmp_path).volume.array, stored - 1024.0)
    with pytest.raises(GdmError, match="localizer"):
        read(tmp_path, series="1")


def test_missing_slices_are_counted_and_filled_only_when_asked(tmp_path):
    stored, along = make_stored((9, 8, 8)), np.arange(9) * 2.0
    keep = [0, 1, 2, 5, 6, 8]
    make_series(tmp_path, stored[keep], along=along[keep])
    with pytest.raises(GdmError, match=r"missing slices: 3, .*4\.00 to 10\.00 mm, 12\.00 to 16\.00 mm"):
        read(tmp_path)
    fixed = read(tmp_path, fix=True)
    array = fixed.volume.array
    assert fixed.volume.geometry.shape == (9, 8, 8)
    assert fixed.volume.geometry.spacing[0] == pytest.approx(2)
    assert np.array_equal(array[keep], stored[keep] - 1024.0)
    assert np.allclose(array[7], (array[6] + array[8]) / 2, atol=1e-3)
    assert "missing slices: 3" in fixed.repairs[0]


def test_uneven_spacing_is_refused_with_its_range_and_resampled(tmp_path):
    """A volume that is linear along the normal survives linear interpolation exactly."""
    along = np.array([0, 2, 4.5, 6, 8, 10.0])
    stored = (100 * along[:, None, None] + make_stored((1, 8, 8))).astype(np.int16)
    make_series(tmp_path, stored, along=along)
    with pytest.raises(GdmError, match=r"uneven spacing: slices are 1\.5 to 2\.5 mm apart, most 2 mm"):
        read(tmp_path)
    fixed = read(tmp_path, fix=True).volume
    expected = 100 * np.arange(6)[:, None, None] * 2.0 + stored[0] - 1024
    assert np.allclose(fixed.array, expected, atol=0.01)


def test_positions_rounded_to_tenths_are_no_uneven_spacing(tmp_path):
    make_series(tmp_path, make_stored(), along=np.round(np.arange(6) * 0.625, 1), spacing=(0.625, 1, 1))
    assert read(tmp_path).repairs == ()


def test_gantry_tilt_is_refused_with_its_angle_and_straightened(tmp_path):
    """The tilted slices sample a ramp over the world; on the straight grid it is the same ramp."""
    angle, n = 12.0, 8
    along = np.arange(n) * 2.0
    shift = np.stack([np.zeros(n), along * np.tan(np.radians(angle))], axis=1)
    y = np.arange(20) * 1.5 + shift[:, 1, None]
    stored = np.broadcast_to((20 * y + 30 * along[:, None])[:, :, None], (n, 20, 10)).round().astype(np.int16)
    make_series(tmp_path, stored, along=along, shift=shift)
    with pytest.raises(GdmError, match=r"gantry tilt: the stack is sheared by 12\.00 degrees"):
        read(tmp_path)
    fixed = read(tmp_path, fix=True).volume
    assert fixed.geometry.shape == (n, 22, 10)
    assert np.allclose(fixed.geometry.matrix, np.eye(3))
    z, rows = np.meshgrid(np.arange(n) * 2.0, np.arange(22) * 1.5, indexing="ij")
    ramp = 20 * rows + 30 * z - 1024
    inside = (rows >= shift[:, 1:] + 1.5) & (rows <= shift[:, 1:] + 18 * 1.5)
    assert np.abs(fixed.array[..., 5] - ramp)[inside].max() < 1.01


def test_copies_of_a_slice_are_dropped_when_asked_and_different_ones_never(tmp_path):
    stored, along = make_stored(), np.array([0, 2, 2, 4, 6, 8.0])
    stored[2] = stored[1]
    make_series(tmp_path / "copies", stored, along=along)
    with pytest.raises(GdmError, match=r"duplicates: 1 of 6 slices"):
        read(tmp_path / "copies")
    assert np.array_equal(read(tmp_path / "copies", fix=True).volume.array, np.delete(stored, 2, 0) - 1024.0)
    stored[2, 0, 0] += 1
    make_series(tmp_path / "echoes", stored, along=along)
    with pytest.raises(GdmError, match="lie at one position and differ"):
        read(tmp_path / "echoes", fix=True)


def test_slices_of_two_directions_are_no_volume(tmp_path):
    def turn(image, index):
        if index % 2:
            image.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]

    make_series(tmp_path, make_stored(), change=turn)
    with pytest.raises(GdmError, match="differ in directions"):
        read(tmp_path, fix=True)


def test_frames_of_an_enhanced_file_are_slices(tmp_path):
    stored = make_stored()
    make_enhanced(tmp_path / "all.dcm", stored)
    found = read(tmp_path).volume
    assert np.array_equal(found.array, stored - 1000.0 - np.arange(6)[:, None, None])
    assert found.geometry.spacing == pytest.approx((2.0, 1.5, 1.25))
    assert found.geometry.origin == (-30, 12.5, 100)


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
@pytest.mark.parametrize("plugins", [True, False])
def test_compressed_series_are_read_with_and_without_plugins(tmp_path, monkeypatch, compressor, plugins):
    stored = make_stored((3, 32, 32)) // 3
    make_series(tmp_path, stored)
    for file in list(tmp_path.iterdir()):
        compress(file, compressor)
    if not plugins:
        monkeypatch.setattr("gdmunet.dicom.reading.get_decoder", lambda _: type("None", (), {"is_available": False}))
    assert np.array_equal(read(tmp_path).volume.array, stored - 1024.0)


def test_run_length_encoding_is_read(tmp_path):
    stored = make_stored((3, 16, 16))
    make_series(tmp_path, stored)
    for file in list(tmp_path.iterdir()):
        image = pydicom.dcmread(file)
        image.compress(pydicom.uid.RLELossless)
        image.save_as(file)
    assert np.array_equal(read(tmp_path).volume.array, stored - 1024.0)


def compress(file, compressor):
    """Stored numbers through ITK's encoder, put back under the headers of the original."""
    image = pydicom.dcmread(file)
    packed = file.with_suffix(".packed.dcm")
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(packed))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(image.pixel_array[None].astype(np.int16)))
    other = pydicom.dcmread(packed)
    assert other.file_meta.TransferSyntaxUID.is_compressed
    packed.unlink()
    image["PixelData"] = other["PixelData"]
    image.file_meta.TransferSyntaxUID = other.file_meta.TransferSyntaxUID
    image.BitsStored, image.HighBit = other.BitsStored, other.HighBit
    image.save_as(file)


VARIANTS = ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("plugins", [True, False])
def test_one_scanner_image_is_the_same_in_every_encoding(tmp_path, monkeypatch, variant, plugins):
    """The MR image that pydicom brings along, uncompressed and in six other transfer syntaxes."""
    files = Path(pydicom.__file__).parent / "data" / "test_files"
    if not plugins:
        monkeypatch.setattr("gdmunet.dicom.reading.get_decoder", lambda _: type("None", (), {"is_available": False}))
    for name in ("MR_small.dcm", f"MR_small_{variant}.dcm"):
        (tmp_path / name).mkdir()
        shutil.copy(files / name, tmp_path / name)
    plain, other = (read(folder).volume for folder in sorted(tmp_path.iterdir()))
    assert np.array_equal(plain.array, other.array)
    assert plain.geometry == other.geometry


def test_a_compressed_multi_frame_file_needs_the_plugins_and_says_so(tmp_path, monkeypatch):
    make_enhanced(tmp_path / "all.dcm", make_stored((3, 16, 16)))
    image = pydicom.dcmread(tmp_path / "all.dcm")
    image.compress(pydicom.uid.RLELossless)
    image.save_as(tmp_path / "all.dcm")
    assert read(tmp_path).volume.geometry.shape == (3, 16, 16)
    monkeypatch.setattr("gdmunet.dicom.reading.get_decoder", lambda _: type("None", (), {"is_available": False}))
    with pytest.raises(GdmError, match=r"compression[\s\S]*RLE[\s\S]*gdmunet\[dicom\]"):
        read(tmp_path)


def test_damage_names_the_file_and_nothing_of_the_patient(tmp_path, recwarn):
    make_series(tmp_path, make_stored())
    file = tmp_path / "IM0002"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(GdmError, match="IM0002") as caught:
        read(tmp_path)
    said = str(caught.value) + "".join(str(warning.message) for warning in recwarn)
    assert NAME not in said
    assert PATIENT_ID not in said


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(GdmError, match="no DICOM image"):
        scan_series(tmp_path)
    with pytest.raises(GdmError, match="missing"):
        scan_series(tmp_path / "nowhere")
