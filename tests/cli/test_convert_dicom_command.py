"""gdm_convert_dicom from the command line: list, volume, series, data set, and gdm_predict's DICOM flags."""

import numpy as np
import pydicom
import pytest

from gdmunet.cli.convert_dicom import main
from gdmunet.cli.flags import parser_of, request_from
from gdmunet.dicom.series import scan_series
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, read_volume, write_volume
from gdmunet.workflows.requests.prediction import PredictRequest

GRID = Geometry((4, 6, 5), (2.0, 1.0, 1.5), (3.0, -4.0, 50.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))


def make(folder, description="Head", grid=GRID):
    array = np.random.default_rng(0).integers(-1000, 1000, grid.shape).astype(np.int16)
    write_ct_series(folder, Volume(array, grid), SeriesLabel(description), patient_id="SECRET")
    return array


def run(*words):
    return main([str(word) for word in words])


def test_a_series_goes_to_nifti_and_back(tmp_path, capsys):
    array = make(tmp_path / "in")
    assert run("-i", tmp_path / "in", "-o", tmp_path / "a.nii.gz") == 0
    assert run("-i", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--reference", tmp_path / "in") == 0
    assert run("-i", tmp_path / "out", "-o", tmp_path / "b.nii.gz") == 0
    first, second = read_volume(tmp_path / "a.nii.gz"), read_volume(tmp_path / "b.nii.gz")
    assert np.array_equal(first.array, array)
    assert np.array_equal(second.array, array)
    assert first.geometry.difference(GRID) is None
    assert second.geometry.difference(GRID) is None
    [old], [new] = scan_series(tmp_path / "in"), scan_series(tmp_path / "out")
    assert new.uid != old.uid
    assert new.frame_of_reference == old.frame_of_reference
    assert new.description == "Synthetic CT from Head"
    printed = capsys.readouterr()
    assert "4 x 6 x 5 voxels of 2 x 1 x 1.5 mm" in printed.out
    assert "SECRET" not in printed.out + printed.err


def test_series_are_listed_and_chosen(tmp_path, capsys):
    make(tmp_path / "in" / "a")
    make(tmp_path / "in" / "b", "Bone")
    assert run("-i", tmp_path / "in") == 0
    listed = capsys.readouterr().out
    assert listed.startswith("2 series")
    assert "Head" in listed
    assert "Bone" in listed
    assert "left out" not in listed
    assert run("-i", tmp_path / "in", "-o", tmp_path / "a.nii.gz") == 1
    error = capsys.readouterr().err
    assert "several DICOM series" in error
    assert "--series" in error
    assert "Traceback" not in error
    uid = scan_series(tmp_path / "in" / "b")[0].uid
    assert run("-i", tmp_path / "in", "-o", tmp_path / "a.nii.gz", "--series", uid) == 0
    assert run("-i", tmp_path / "in", "-o", tmp_path / "a.png", "--series", uid) == 1


def test_files_without_the_preamble_are_counted(tmp_path, capsys):
    """Some old archives lack it: what is left out must not look as if it were not there."""
    make(tmp_path / "in")
    bare = (tmp_path / "in" / "CT_0001.dcm").read_bytes()[132:]
    for file in (tmp_path / "in" / "old" / "a.dcm", tmp_path / "in" / "b.dcm", tmp_path / "in" / ".hidden"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bare)
    assert run("-i", tmp_path / "in") == 0
    assert "other files, left out: 2 (" in capsys.readouterr().out


def test_fractions_are_rounded_and_it_is_said(tmp_path, capsys):
    write_volume(tmp_path / "a.nii.gz", np.linspace(-900, 900, 120, dtype=np.float32).reshape(GRID.shape), GRID)
    assert run("-i", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--description", "Planning CT") == 0
    assert "rounded to whole HU" in capsys.readouterr().out
    [series] = scan_series(tmp_path / "out")
    assert series.description == "Synthetic: Planning CT"
    derivation = pydicom.dcmread(series.files[0]).DerivationDescription
    assert derivation.startswith("Synthetic: Planning CT: written")
    assert "not by a scanner" in derivation


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("Non-synthetic planning CT", "Synthetic: Non-synthetic planning CT"),
        ("CT of the pelvis, portal venous phase, 3 mm, soft kernel, synthetic", "Synthetic: CT of the pelvis"),
        ("synthetic CT, model 3", "synthetic CT, model 3"),
    ],
)
def test_a_description_begins_with_synthetic_whatever_the_text(tmp_path, given, written):
    """DICOM cuts it at 64 characters, viewers earlier."""
    write_volume(tmp_path / "a.nii.gz", np.arange(120, dtype=np.int16).reshape(GRID.shape), GRID)
    assert run("-i", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--description", given) == 0
    [series] = scan_series(tmp_path / "out")
    assert series.description.startswith(written)


def test_missing_slices_need_the_flag(tmp_path, capsys):
    make(tmp_path / "in", grid=Geometry((6, 4, 4), (2.0, 1.0, 1.0)))
    (tmp_path / "in" / "CT_0003.dcm").unlink()
    words = ["-i", tmp_path / "in", "-o", tmp_path / "a.nii.gz"]
    assert run(*words) == 1
    assert "missing slices: 1" in capsys.readouterr().err
    assert not (tmp_path / "a.nii.gz").exists()
    assert run(*words, "--fix-geometry") == 0
    assert read_volume(tmp_path / "a.nii.gz").geometry.shape == (6, 4, 4)
    assert "missing slices: 1" in capsys.readouterr().out


def test_a_data_set_from_folders_of_cases(tmp_path, capsys):
    for case in ("p1", "p2"):
        make(tmp_path / "in" / case / "mr")
        make(tmp_path / "in" / case / "ct")
    words = ["-d", 505, "-n", "Heads", "--condition_folder", "mr", "--target_folder", "ct", "--channel", "CT"]
    words += ["--raw", tmp_path / "raw"]
    assert run("-i", tmp_path / "in", *words, "--no_pbar") == 0
    assert "gdm_plan_and_preprocess -d 505" in capsys.readouterr().out
    assert (tmp_path / "raw" / "Dataset505_Heads" / "imagesTr" / "p2_0000.nii.gz").is_file()


@pytest.mark.parametrize("words", [["-d", "5", "--series", "3"], ["--reference", "x"]])
def test_flags_that_do_not_belong_together_are_refused(tmp_path, words):
    with pytest.raises(SystemExit) as end:
        run("-i", tmp_path, *words)
    assert end.value.code == 2


def test_prediction_has_the_flags():
    words = ["-i", "in", "-o", "out", "--dicom-out", "d", "--series", "3", "4", "--fix_geometry"]
    found = request_from(PredictRequest, parser_of(PredictRequest).parse_args(words))
    assert found.series == ("3", "4")
    assert found.fix_geometry
    assert str(found.dicom_out) == "d"
