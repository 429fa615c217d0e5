"""gdm_new_dataset from the command line."""

import json

import numpy as np
import pytest

from gdmunet.cli.new_dataset import main
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume


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
