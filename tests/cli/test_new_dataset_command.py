"""gdm_new_dataset from the command line."""

import json

import numpy as np
import pytest

from gdmunet.cli.new_dataset import main
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_volume, write_volume


@pytest.fixture
def folders(tmp_path):
    for folder, suffix in (("mr", "_mr"), ("ct", "_ct")):
        for index in range(4):
            array = np.arange(24, dtype=np.int16).reshape(2, 3, 4) + index
            write_volume(tmp_path / folder / f"p{index}{suffix}.nii.gz", array, Geometry((2, 3, 4), (1.0, 1.0, 1.0)))
    return tmp_path


def words(folders, *more):
    return [
        "-d", "5", "--name", "Heads", "-i", f"{folders}/mr", "-t", f"{folders}/ct", "--channel", "MR",
        "--target", "CT", "--image-suffix", "_mr", "--target_suffix", "_ct", "--raw", f"{folders}/raw", *more,
    ]  # fmt: skip


def test_the_command_lays_the_data_set_out(folders, capsys):
    assert main(words(folders, "--test", "p3")) == 0
    dataset = folders / "raw" / "Dataset005_Heads"
    assert sorted(p.name for p in (dataset / "imagesTr").iterdir()) == [f"p{i}_0000.nii.gz" for i in range(3)]
    assert [p.name for p in (dataset / "targetsTs").iterdir()] == ["p3.nii.gz"]
    assert json.loads((dataset / "dataset.json").read_text())["channel_names"] == {"0": "MR"}
    said = capsys.readouterr().out
    assert "3 training cases, 1 test case held out: p3" in said
    assert "gdm_plan_and_preprocess -d 5" in said


def test_a_data_set_without_test_cases_says_how_to_hold_some_out(folders, capsys):
    assert main(words(folders)) == 0
    assert "4 training cases, none held out for testing (--test" in capsys.readouterr().out


def test_a_second_run_is_refused_without_a_traceback(folders, capsys):
    assert main(words(folders)) == 0
    assert main(words(folders)) == 1
    text = capsys.readouterr().err
    assert "data set 5 is there already" in text
    assert "Dataset005_Heads" in text
    assert "Traceback" not in text


def test_a_case_without_target_is_named(folders, capsys):
    (folders / "ct" / "p2_ct.nii.gz").unlink()
    assert main(words(folders)) == 1
    text = capsys.readouterr().err
    assert "case: p2" in text
    assert "p2_mr.nii.gz" in text
    assert "remedy" in text


@pytest.mark.parametrize("content", [b"", b"these are notes, not a volume\n"], ids=["empty", "text"])
@pytest.mark.parametrize("file", ["mr/p2_mr.nii.gz", "ct/p2_ct.nii.gz"])
def test_a_file_that_is_not_a_volume_is_named_and_no_data_set_is_made(folders, capsys, content, file):
    (folders / file).write_bytes(content)
    assert main(words(folders)) == 1
    text = capsys.readouterr().err
    assert "case: p2" in text
    assert file.rpartition("/")[2] in text
    assert "remedy" in text
    assert not list((folders / "raw").glob("Dataset*"))


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_a_target_on_another_grid_is_named(folders, capsys, ending):
    for path in folders.glob("*/*.nii.gz"):
        write_volume(path.with_name(path.name.replace(".nii.gz", ending)), *_read(path))
        if ending != ".nii.gz":
            path.unlink()
    write_volume(folders / "ct" / f"p2_ct{ending}", np.ones((2, 3, 5)), Geometry((2, 3, 5), (1.0, 1.0, 1.0)))
    assert main(words(folders)) == 1
    text = capsys.readouterr().err
    assert "different grids" in text
    assert "case: p2" in text


def _read(path):
    volume = read_volume(path)
    return volume.array, volume.geometry


def test_a_missing_folder_is_said_before_a_number_that_is_taken(folders, capsys):
    assert main(words(folders)) == 0
    missing = [word.replace("/mr", "/mri") for word in words(folders)]
    assert main(missing) == 1
    text = capsys.readouterr().err
    assert "the folder is missing" in text
    assert "mri" in text
