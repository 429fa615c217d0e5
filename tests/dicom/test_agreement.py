"""The series of a case: of its channels' modalities, of one patient, in one frame of reference."""

import numpy as np
import pydicom
import pytest
from dicom_samples import PATIENT_ID, make_series, make_stored

from gdmunet.conversion.dicom_dataset import DicomDatasetOptions, DicomLayout, convert_dicom_dataset
from gdmunet.dicom.agreement import ChannelSeries, check_case_series
from gdmunet.dicom.series import choose_series, scan_series
from gdmunet.errors import GdmError


def series(folder, modality="MR", word="MR", patient=PATIENT_ID, frame="1.2.3"):
    def change(image, _index):
        image.PatientID, image.FrameOfReferenceUID = patient, frame

    make_series(folder, make_stored(), modality=modality, change=change)
    return ChannelSeries(choose_series(scan_series(folder)), folder, word)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("word", ["CT", "cbct", "CBCT", "MR", "T1", "FLAIR", "Dixon water"])
def test_a_series_is_of_its_channels_modality(tmp_path, modality, word):
    one = series(tmp_path / "a", modality, word)
    if (modality == "CT") == (word.upper() in ("CT", "CBCT")):
        assert check_case_series([one], "p1") == []
        return
    with pytest.raises(GdmError, match="modality of its channel") as caught:
        check_case_series([one], "p1")
    error = caught.value
    assert (error.case, error.file) == ("p1", tmp_path / "a")
    assert f"modality {modality}" in error.found
    assert "--accept modality" in error.remedy
    assert check_case_series([one], "p1", ("modality",)) == []


def test_two_patients_in_a_case_are_an_error_without_their_ids(tmp_path):
    both = [series(tmp_path / "mr"), series(tmp_path / "ct", "CT", "CT", patient="OTHER-77")]
    with pytest.raises(GdmError, match="different patients") as caught:
        check_case_series(both, "p2")
    text = str(caught.value)
    assert "case: p2" in text
    assert "OTHER-77" not in text
    assert PATIENT_ID not in text
    assert check_case_series(both, "p2", ("patient",)) == []
    assert PATIENT_ID not in repr(both)


def test_an_unknown_patient_is_not_another_one(tmp_path):
    assert check_case_series([series(tmp_path / "mr"), series(tmp_path / "ct", "CT", "CT", patient="")], "p") == []


def test_different_frames_of_reference_are_a_warning(tmp_path):
    both = [series(tmp_path / "mr"), series(tmp_path / "ct", "CT", "CT", frame="1.2.4")]
    [line] = check_case_series(both, "p2")
    assert line.startswith("WARNING p2")
    assert "frames of reference" in line


def test_a_data_set_says_what_it_found(tmp_path):
    """Swapped folders end it; accepted ones do not, and what was left out is counted."""
    for case in ("a", "b"):
        series(tmp_path / "in" / case / "mr", "CT")
        series(tmp_path / "in" / case / "ct", "CT")
        (tmp_path / "in" / case / "mr" / "Thumbs.db").write_text("")
    layout = DicomLayout(tmp_path / "in", ("mr",), "ct")
    with pytest.raises(GdmError, match="modality of its channel"):
        convert_dicom_dataset(layout, tmp_path / "raw", 505, "A", DicomDatasetOptions(("MR",), "CT"))
    assert list((tmp_path / "raw").glob("Dataset*")) == []
    options = DicomDatasetOptions(("MR",), "CT", accept=("modality",))
    done = convert_dicom_dataset(layout, tmp_path / "raw", 505, "A", options)
    assert done.cases == ("a", "b")
    assert sum("left out 1 file, not DICOM: Thumbs.db" in note for note in done.notes) == 2


def test_two_series_in_a_folder_name_a_way_out_that_the_command_has(tmp_path):
    """dicom_two_series_in_target; the command adds its own --series."""
    series(tmp_path / "in" / "a" / "mr")
    series(tmp_path / "in" / "a" / "ct", "CT")
    make_series(tmp_path / "in" / "a" / "ct" / "bone", make_stored(), number=9)
    with pytest.raises(GdmError, match="several DICOM series") as caught:
        convert_dicom_dataset(
            DicomLayout(tmp_path / "in", ("mr",), "ct"), tmp_path / "raw", 5, "A", DicomDatasetOptions(("MR",), "CT")
        )
    assert "move the other series" in caught.value.remedy
    assert caught.value.largest is not None


def test_the_values_of_an_mr_series_are_not_changed_by_the_checks(tmp_path):
    one = series(tmp_path / "mr")
    header = pydicom.dcmread(one.series.files[0])
    assert header.Modality == "MR"
    assert np.all([part.intercept == 0 for part in one.series.slices])
