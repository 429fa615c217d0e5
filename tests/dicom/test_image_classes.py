"""What is a slice is a positive list; what is not on it is named and left out, and does not disqualify its series."""

import numpy as np
import pydicom
import pytest
from dicom_samples import make_enhanced, make_series, make_stored
from pydicom.uid import UID_dictionary

from gdmunet.dicom.image_classes import CLASSES, why_not_a_slice
from gdmunet.dicom.reading import read_series
from gdmunet.dicom.series import choose_series, left_out_of, scan_series
from gdmunet.errors import GdmError

SPOILED = 2
STORAGES = [uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and "Storage" in entry[0]]


def storage(uid, modality="OT"):
    def change(image):
        image.SOPClassUID, image.Modality = uid, modality

    return change


def setting(**elements):
    def change(image):
        for keyword, value in elements.items():
            setattr(image, keyword, value)

    return change


def without(*keywords):
    def change(image):
        for keyword in keywords:
            if keyword in image:
                del image[keyword]

    return change


NO_SLICES = {
    "dose": (storage("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"), "RT Dose Storage"),
    "pet": (storage("1.2.840.10008.5.1.4.1.1.128", "PT"), "Positron Emission"),
    "segmentation": (storage("1.2.840.10008.5.1.4.1.1.66.4", "SEG"), "Segmentation Storage"),
    "screenshot": (storage("1.2.840.10008.5.1.4.1.1.7"), "Secondary Capture"),
    "x_ray": (storage("1.2.840.10008.5.1.4.1.1.1.1", "DX"), "Digital X-Ray"),
    "ultrasound": (storage("1.2.840.10008.5.1.4.1.1.6.1", "US"), "Ultrasound"),
    "presentation": (storage("1.2.840.10008.5.1.4.1.1.11.1", "PR"), "Presentation State"),
    "no_class": (without("SOPClassUID"), "no SOP class"),
    "other_modality": (setting(Modality="MR"), "modality MR in a file of the class CT image"),
    "palette": (setting(PhotometricInterpretation="PALETTE COLOR"), "photometric interpretation PALETTE COLOR"),
    "colour": (setting(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "colour images"),
    "localizer": (setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
    "screen_save": (setting(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "screenshot"),
    "projection": (setting(ImageType=["DERIVED", "SECONDARY", "MIP"]), "projection"),
    "frames": (setting(NumberOfFrames=4), "4 frames in a file of the class CT image, which holds one"),
    "too_many_bits": (setting(BitsStored=20, HighBit=19), "bits that cannot be"),
    "other_high_bit": (setting(HighBit=11), "bits that cannot be"),
    "two_position_numbers": (setting(ImagePositionPatient=[1, 2]), "ImagePositionPatient is not 3 numbers"),
    "no_rows": (setting(Rows=0), "rows"),
}  # fmt: skip
REQUIRED = [keyword for keyword in CLASSES["1.2.840.10008.5.1.4.1.1.2"].required if keyword[:3] not in ("SOP", "Ser")]
EVERY = NO_SLICES | {f"without_{keyword}": (without(keyword), f"no {keyword}") for keyword in REQUIRED}


def spoil(folder, change, file_number=None):
    """Change one file of a series, or all."""
    for number, file in enumerate(sorted(folder.iterdir())):
        if file_number in (None, number):
            image = pydicom.dcmread(file)
            change(image)
            pydicom.dcmwrite(file, image, enforce_file_format=False)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", EVERY)
def test_a_series_of_other_things_is_named_and_is_not_a_volume(tmp_path, name):
    change, reason = EVERY[name]
    make_series(tmp_path, make_stored())
    spoil(tmp_path, change)
    if name == "no_rows" or name == "without_Rows":
        with pytest.raises(GdmError):
            choose_series(scan_series(tmp_path), case="p1")
        return
    [series] = scan_series(tmp_path)
    assert reason in series.no_volume
    assert reason in str(series)
    with pytest.raises(GdmError, match="is a volume") as caught:
        choose_series([series], case="p1")
    assert reason in caught.value.found


@pytest.mark.parametrize("name", EVERY)
def test_one_of_them_does_not_disqualify_its_series(tmp_path, name):
    """The file is a further one of the series, at no place of its own."""
    change, reason = EVERY[name]
    stored = make_stored()
    make_series(tmp_path, np.concatenate([stored, stored[:1]]))
    last = next(
        file
        for file in tmp_path.iterdir()
        if pydicom.dcmread(file).ImagePositionPatient[2] == 100.0 + 2.0 * len(stored)
    )
    image = pydicom.dcmread(last)
    change(image)
    pydicom.dcmwrite(last, image, enforce_file_format=False)
    found = scan_series(tmp_path)
    series = choose_series(found)
    assert [(one.file, reason in one.reason) for one in series.left_out] == [(last, True)]
    assert np.array_equal(read_series(series).volume.array, stored - 1024.0)
    [line] = left_out_of(tmp_path, found, series, "p1")
    assert "p1: 6 files of the series taken" in line
    assert last.name in line
    assert reason in line


@pytest.mark.parametrize("uid", STORAGES)
def test_no_other_storage_class_is_a_slice(tmp_path, uid):
    make_series(tmp_path, make_stored((1, 4, 4)))
    image = pydicom.dcmread(next(tmp_path.iterdir()))
    if uid in CLASSES:
        assert why_not_a_slice(image) is None
        return
    image.SOPClassUID = uid
    assert "is not a CT or MR image" in why_not_a_slice(image)


@pytest.mark.parametrize("frames", [5, 7])
def test_an_enhanced_file_with_frames_without_a_place_is_left_out(tmp_path, frames):
    make_enhanced(tmp_path / "all.dcm", make_stored())
    spoil(tmp_path, setting(NumberOfFrames=frames))
    [series] = scan_series(tmp_path)
    assert series.no_volume == f"{frames} frames with 6 places"


def test_an_enhanced_ct_frame_without_its_unit_is_an_error(tmp_path):
    make_enhanced(tmp_path / "all.dcm", make_stored())
    spoil(tmp_path, lambda image: image.PerFrameFunctionalGroupsSequence[3].pop("PixelValueTransformationSequence"))
    with pytest.raises(GdmError, match="does not say where"):
        scan_series(tmp_path)


def twelve_bits(signed, fill):
    def change(image):
        stored = np.arange(120, dtype=np.int64).reshape(10, 12) - (60 if signed else 0)
        if fill == "empty":
            stored = stored & 0xFFF
        if fill == "other":
            stored[3, 4] = 0x7ABC
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, int(signed)
        image.PixelData = stored.astype("<i2").tobytes()

    return change


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("fill", ["sign", "empty", "other"])
def test_stored_numbers_fit_the_bits_of_the_header(tmp_path, signed, fill):
    make_series(tmp_path, make_stored())
    spoil(tmp_path, twelve_bits(signed, fill))
    series = choose_series(scan_series(tmp_path))
    if fill == "other":
        with pytest.raises(GdmError, match="need more bits") as caught:
            read_series(series, case="p1")
        assert "31420" in caught.value.found
        assert "BitsStored 12" in caught.value.expected
        return
    plane = read_series(series).volume.array[0]
    assert plane[0, 0] == -1024 - (60 if signed else 0)
    assert np.ptp(plane) == 119


@pytest.mark.parametrize("number", ["x", "", "1.5", None])
def test_an_odd_series_number_is_none(tmp_path, number):
    make_series(tmp_path, make_stored())
    for file in tmp_path.iterdir():
        image = pydicom.dcmread(file)
        del image.SeriesNumber
        if number is not None:
            image.add_new("SeriesNumber", "LO", number)
        pydicom.dcmwrite(file, image, implicit_vr=False, little_endian=True)
    [series] = scan_series(tmp_path)
    assert series.number is None
    assert series.no_volume is None


def test_files_that_are_not_dicom_are_counted_and_named(tmp_path):
    make_series(tmp_path, make_stored())
    for name in ("Thumbs.db", "desktop.ini", "IM0001.json", ".DS_Store", "._IM0001"):
        (tmp_path / name).write_text("{}")
    found = scan_series(tmp_path)
    [line] = left_out_of(tmp_path, found, choose_series(found), "p1")
    assert line == "p1: left out 3 files, not DICOM: IM0001.json, Thumbs.db, desktop.ini"
