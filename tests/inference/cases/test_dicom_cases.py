"""Prediction from DICOM series, and predicted CTs as DICOM series."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicom_samples import make_structures
from prediction_samples import SPACING, make_configuration, make_descriptor, make_head, make_model

from gdmunet.cli.predict import main
from gdmunet.dicom.reading import read_series
from gdmunet.dicom.series import choose_series, scan_series
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, read_volume, write_volume
from gdmunet.inference.cases.dicom import DicomOptions, find_dicom_folders, open_dicom
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor

TURNED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def make_series(folder, seed=0, description="Head"):
    head = make_head(seed=seed)
    grid = Geometry(head.shape, SPACING, (-7.0, 5.5, 300.0), TURNED)
    write_ct_series(folder, Volume(head, grid), SeriesLabel(description), patient_id="SECRET")
    return Volume(head, grid)


def predictor(channels=1, target="CT"):
    descriptor = replace(make_descriptor(channels), target_name=target)
    return Predictor([lambda batch: batch[:, :1]], make_configuration(channels=channels), descriptor)


def run(source, predictions, model=None, continue_prediction=False, masks=None, **options):
    model = model or predictor()
    cases = open_dicom(source, model, DicomOptions(**options), masks)
    asked = PredictionOptions(continue_prediction=continue_prediction, show_progress=False)
    return predict_cases(cases, predictions, model, asked)


def test_cases_are_found_in_a_folder_and_its_sub_folders(tmp_path):
    make_series(tmp_path / "in" / "p1" / "deep" / "series")
    make_series(tmp_path / "in" / "p2")
    assert find_dicom_folders(tmp_path / "in") == {name: tmp_path / "in" / name for name in ("p1", "p2")}
    assert find_dicom_folders(tmp_path / "in" / "p2") == {"p2": tmp_path / "in" / "p2"}
    (tmp_path / "in" / "p3").mkdir()
    with pytest.raises(GdmError, match="case: p3"):
        find_dicom_folders(tmp_path / "in")
    head = make_head()
    write_volume(tmp_path / "in" / "a_0000.nii.gz", head, Geometry(head.shape, SPACING))
    assert find_dicom_folders(tmp_path / "in") is None


def test_a_series_is_predicted_and_written_as_a_ct_series_at_the_same_place(tmp_path):
    """The identity network: the predicted series is the source, apart from air outside the body."""
    start = make_series(tmp_path / "in" / "p1")
    make_series(tmp_path / "in" / "p2", seed=1)
    for name in ("p1", "p2"):
        write_volume(tmp_path / "masks" / f"{name}.nii.gz", start.array > -1000, start.geometry)
    done = run(tmp_path / "in", tmp_path / "out", output=tmp_path / "dicom", masks=tmp_path / "masks")
    assert set(done.predicted) == {"p1", "p2"}
    nifti = read_volume(tmp_path / "out" / "p1.nii.gz")
    [series] = scan_series(tmp_path / "dicom" / "p1")
    found = read_series(series).volume
    assert np.array_equal(found.array, nifti.array)
    assert found.geometry.difference(start.geometry) is None
    assert nifti.geometry.difference(start.geometry) is None
    assert np.abs(found.array - start.array)[start.array > -1000].max() <= 1
    source = choose_series(scan_series(tmp_path / "in" / "p1"))
    old, new = (pydicom.dcmread(one.files[0]) for one in (source, series))
    assert series.uid != source.uid
    assert series.frame_of_reference == source.frame_of_reference
    assert new.StudyInstanceUID == old.StudyInstanceUID
    assert new.PatientID == old.PatientID == "SECRET"
    assert series.description.startswith("Synthetic CT")
    assert "predicted from CT" in new.DerivationDescription


def test_continuing_writes_only_what_is_missing(tmp_path):
    for name in ("p1", "p2"):
        make_series(tmp_path / "in" / name)
    run(tmp_path / "in", tmp_path / "out")
    make_series(tmp_path / "dicom" / "p1")
    with pytest.raises(GdmError, match="already"):
        run(tmp_path / "in", tmp_path / "out", output=tmp_path / "dicom")
    done = run(tmp_path / "in", tmp_path / "out", continue_prediction=True, output=tmp_path / "dicom")
    assert set(done.predicted) == {"p2"}
    assert done.skipped == ("p1",)
    assert (tmp_path / "dicom" / "p2" / "CT_0001.dcm").is_file()


def test_each_channel_names_its_series(tmp_path):
    folder = tmp_path / "in"
    for name in ("first", "second"):
        make_series(folder / "p1" / name, seed=len(name))
    with pytest.raises(GdmError, match="every channel of the model needs a series"):
        run(folder, tmp_path / "out", predictor(2))
    uids = {name: scan_series(folder / "p1" / name)[0].uid for name in ("first", "second")}
    order = [uids["second"], uids["first"]]
    run(folder, tmp_path / "out", predictor(2), series=tuple(order))
    found = read_volume(tmp_path / "out" / "p1.nii.gz").array
    assert np.median(np.abs(found - make_head(seed=len("second")))[found > -1000]) <= 1
    with pytest.raises(GdmError, match=r"several DICOM series[\s\S]*case: p1"):
        run(folder, tmp_path / "out")


def test_a_ct_is_no_input_of_a_model_of_mr_unless_insisted_on(tmp_path):
    make_series(tmp_path / "in" / "p1")
    (tmp_path / "in" / "p1" / "Thumbs.db").write_text("")
    descriptor = replace(make_descriptor(), channel_names={"0": "MR"})
    model = Predictor([lambda batch: batch[:, :1]], make_configuration(), descriptor)
    with pytest.raises(GdmError, match=r"modality of its channel, MR[\s\S]*case: p1[\s\S]*modality CT"):
        run(tmp_path / "in", tmp_path / "out", model, output=tmp_path / "dicom")
    assert not (tmp_path / "dicom").exists()
    with pytest.raises(GdmError, match="modality of its channel"):
        model.predict(tmp_path / "in" / "p1")
    insisting = Predictor([lambda batch: batch[:, :1]], make_configuration(), descriptor, accept=("modality",))
    done = run(tmp_path / "in", tmp_path / "out", insisting, accept=("modality",))
    assert "p1: left out 1 file, not DICOM: Thumbs.db" in done.notes


def test_only_a_ct_becomes_a_ct_series_and_never_beside_its_source(tmp_path):
    make_series(tmp_path / "p1")
    with pytest.raises(GdmError, match="predicts MR"):
        open_dicom(tmp_path / "p1", predictor(target="MR"), DicomOptions(output=tmp_path / "dicom"))
    with pytest.raises(GdmError, match="lies in the folder of a source"):
        open_dicom(tmp_path / "p1", predictor(), DicomOptions(output=tmp_path / "p1" / "synthetic"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GdmError, match="need DICOM input"):
        open_dicom(tmp_path / "empty", predictor(), DicomOptions(output=tmp_path / "dicom"))


@pytest.mark.parametrize("continue_prediction", [False, True])
@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("patients", "patients"),
        ("patients", "link"),
        ("link", "patients"),
        ("patients/p1", "patients"),
        ("patients/p1", "patients/p1"),
        ("patients/p1/p1", "patients"),
        ("patients/p1/p1", "patients/p1"),
    ],
)
def test_a_source_series_is_never_overwritten(tmp_path, source, output, continue_prediction):
    """--dicom-out DIR writes into DIR/CASE, which must not be the folder of a source, nor hold or lie in one."""
    make_series(tmp_path / "patients" / "p1" / "p1")
    (tmp_path / "link").symlink_to(tmp_path / "patients")
    with pytest.raises(GdmError, match=r"is, holds or lies in the folder of a source[\s\S]*case: p1"):
        run(tmp_path / source, tmp_path / "out", output=tmp_path / output, continue_prediction=continue_prediction)
    assert len(list((tmp_path / "patients" / "p1" / "p1").glob("*.dcm"))) == 20


def test_only_a_series_of_our_own_is_replaced(tmp_path):
    """Continued without its volume file, a case is predicted again: a series of others in its place stays."""
    make_series(tmp_path / "in" / "p1")
    make_series(tmp_path / "dicom" / "p1")
    file = tmp_path / "dicom" / "p1" / "CT_0007.dcm"
    image = pydicom.dcmread(file)
    image.Manufacturer = "SCANNERS"
    image.save_as(file)
    before = {file.name: file.read_bytes() for file in (tmp_path / "dicom" / "p1").iterdir()}
    with pytest.raises(GdmError, match=r"more than a series that gdmunet wrote[\s\S]*case: p1"):
        run(tmp_path / "in", tmp_path / "out", output=tmp_path / "dicom", continue_prediction=True)
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "dicom" / "p1").iterdir()}
    assert not (tmp_path / "out").exists()  # refused before anything was computed


def test_a_predictor_takes_the_folder_of_a_series(tmp_path):
    start = make_series(tmp_path / "p1")
    found = predictor().predict(tmp_path / "p1")
    assert found.identifier == "p1"
    assert found.geometry.difference(start.geometry) is None


def test_the_command_goes_from_dicom_to_dicom_and_names_no_patient(tmp_path, capsys):
    make_series(tmp_path / "in" / "p1")
    (tmp_path / "in" / "p1" / "CT_0004.dcm").unlink()
    model = make_model(tmp_path / "results", folds=("0",))
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-m", model, "--dicom-out", tmp_path / "dicom"]
    words = [*map(str, words), "-device", "cpu", "--no_pbar"]
    assert main(words) == 1
    refused = capsys.readouterr()
    assert "missing slices: 1" in refused.err
    assert "case: p1" in refused.err
    assert main([*words, "--fix-geometry"]) == 0
    printed = capsys.readouterr()
    assert "given body masks" not in printed.out  # that model was trained without
    assert "p1: resampled onto a regular grid; missing slices: 1" in printed.out
    [series] = scan_series(tmp_path / "dicom" / "p1")
    assert series.images == 20
    header = pydicom.dcmread(series.files[0])
    assert header.ManufacturerModelName == "Dataset999_Test"
    assert "Dataset999_Test" in header.DerivationDescription
    assert "SECRET" not in refused.out + refused.err + printed.out + printed.err


def add_structures(folder, point=0.0):
    """A square on the third slice of a series, moved along the normal by `point` mm."""
    series = choose_series(scan_series(folder))
    one = series.slices[2]
    row, column = np.array(one.orientation).reshape(2, 3)
    corners = np.array([[1, 1], [4, 1], [4, 4], [1, 4]]) @ np.stack([row, column])
    points = np.array(one.position) + corners + point * np.cross(row, column)
    make_structures(folder / "rs.dcm", folder / "mr", {"A": {one.uid: points}})


def test_structure_sets_go_along_once(tmp_path):
    """Also where the series was written before without them; a case without any is said."""
    for name in ("p1", "p2"):
        make_series(tmp_path / "in" / name / "mr")
    add_structures(tmp_path / "in" / "p1")
    first = run(tmp_path / "in", tmp_path / "out", output=tmp_path / "dicom")
    assert any("left out series" in note and "RTSTRUCT" in note for note in first.notes)
    assert not list((tmp_path / "dicom").rglob("RS_*"))
    asked = {"output": tmp_path / "dicom", "copy_structures": True, "continue_prediction": True}
    done = run(tmp_path / "in", tmp_path / "out", **asked)
    assert set(done.predicted) == {"p1"}
    assert [note for note in done.notes if note.startswith("p1")] == [
        "p1: 1 structure set of the series in its folder, copied with the predicted series"
    ]
    copied = pydicom.dcmread(tmp_path / "dicom" / "p1" / "RS_0001.dcm")
    slices = {pydicom.dcmread(file).SOPInstanceUID for file in (tmp_path / "dicom" / "p1").glob("CT_*")}
    [contour] = copied.ROIContourSequence[0].ContourSequence
    assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID in slices
    assert run(tmp_path / "in", tmp_path / "out", **asked).skipped == ("p1", "p2")
    fresh = run(tmp_path / "in", tmp_path / "out2", output=tmp_path / "dicom2", copy_structures=True)
    assert "p2: no structure set of the series in its folder, copied with the predicted series" in fresh.notes


def test_contours_that_do_not_fit_are_refused_before_anything_is_computed(tmp_path):
    make_series(tmp_path / "in" / "p1" / "mr")
    add_structures(tmp_path / "in" / "p1", point=0.4)
    with pytest.raises(GdmError, match=r"lies on no slice[\s\S]*case: p1"):
        run(tmp_path / "in", tmp_path / "out", output=tmp_path / "dicom", copy_structures=True)
    assert not (tmp_path / "dicom").exists()
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_the_command_needs_a_folder_for_copied_structure_sets(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["-i", str(tmp_path), "-o", str(tmp_path / "out"), "--rtstruct", "copy"])
    assert stopped.value.code == 2
    assert "--dicom-out DIR" in capsys.readouterr().err
