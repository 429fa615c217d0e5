"""A folder of predictions is of one model and one set of options: what is added to it is compared first."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from prediction_samples import SPACING, make_head, make_model

from gdmunet.checkpoint import load_weights, save_weights
from gdmunet.cli.predict import main
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.inference import Predictor
from gdmunet.inference.cases.files import FileCases
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.prediction_settings import SETTINGS_FILE, PredictionSpec
from gdmunet.results import ModelFolder

# Another value of every field that a folder's predictions may not mix.
OTHER = {
    "model": "/another/model",
    "folds": ["0"],
    "checkpoint": "final",
    "configuration": "2d",
    "step_size": 0.25,
    "tta": True,
    "skip_empty": False,
    "mask_folder": "/masks",
    "as_float": True,
    "sampler": {"name": "euler", "steps": 4, "source_channel": None, "noise": 0.0},
    "samples": 3,
    "seed": 7,
    "fast": True,
    "realism": 0.5,
    "input_folder": "/another/input",
    "weights": {"0": "0" * 64, "1": "0" * 64},
    "reading": {"series": "2"},
}
SAID = {"device", "precision", "uncertainty", "gdmunet_version"}


@pytest.fixture
def begun(tmp_path):
    """A folder that a run has begun, and what goes on in it."""
    model = make_model(tmp_path / "results")
    for case in ("a", "b", "c"):
        head = make_head(seed=ord(case))
        write_volume(tmp_path / "in" / f"{case}_0000.nii.gz", head.astype(np.int16), Geometry(head.shape, SPACING))

    def predict(*, folder=model, **options):
        predictor = Predictor.from_folder(folder, step_size=1.0)
        source = FileCases(tmp_path / "in", predictor.descriptor)
        return predict_cases(source, tmp_path / "out", predictor, PredictionOptions(show_progress=False, **options))

    predict()
    (tmp_path / "out" / "b.nii.gz").unlink()
    return predict


def change(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_every_setting_is_compared_or_said():
    assert {field.name for field in dataclasses.fields(PredictionSpec)} == OTHER.keys() | SAID


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("way", ["continue", "part"])
def test_a_run_does_not_go_on_under_other_settings(begun, tmp_path, name, way):
    file = tmp_path / "out" / SETTINGS_FILE
    fields = {name: OTHER[name]} | ({"weights": {}} if name == "model" else {})
    change(file, **fields)
    before = file.read_bytes(), (tmp_path / "out" / "a.nii.gz").read_bytes()
    with pytest.raises(GdmError, match="begun with other settings") as error:
        begun(**({"continue_prediction": True} if way == "continue" else {"num_parts": 3, "part_id": 1}))
    assert ("model" if name == "weights" else name) in str(error.value.found)
    assert "-o" in error.value.remedy
    assert (file.read_bytes(), (tmp_path / "out" / "a.nii.gz").read_bytes()) == before
    assert not (tmp_path / "out" / "b.nii.gz").exists()


def test_a_run_goes_on_under_the_same_settings_also_of_a_model_that_was_moved(begun, tmp_path):
    assert tuple(begun(continue_prediction=True).predicted) == ("b",)
    model = next((tmp_path / "results").glob("*/*"))
    moved = tmp_path / "elsewhere" / model.parent.name / model.name
    shutil.copytree(model, moved)
    assert begun(continue_prediction=True, folder=moved).notes == ()


def test_weights_that_were_trained_anew_in_the_same_folder_are_another_model(begun, tmp_path):
    fold = ModelFolder(next((tmp_path / "results").glob("*/*"))).fold(0)
    stored = load_weights(fold.checkpoint("best"))
    weights = {name: value + 0.1 for name, value in stored.state_dict.items() if torch.is_floating_point(value)}
    save_weights(fold.checkpoint("best"), stored.state_dict | weights, stored.network, stored.metadata)
    with pytest.raises(GdmError, match="begun with other settings"):
        begun(continue_prediction=True)


@pytest.mark.parametrize("name", ["device", "precision"])
def test_another_machine_is_said(begun, tmp_path, name):
    change(tmp_path / "out" / SETTINGS_FILE, **{name: {"device": "cuda", "precision": "bfloat16"}[name]})
    (note,) = begun(continue_prediction=True).notes
    assert {"device": "on cuda", "precision": "in bfloat16"}[name] in note


def test_settings_of_an_earlier_version_stay_usable_and_what_is_not_compared_is_said(begun, tmp_path):
    change(tmp_path / "out" / SETTINGS_FILE, weights={}, input_folder=None, reading={})
    done = begun(continue_prediction=True)
    assert tuple(done.predicted) == ("b",)
    assert "weights cannot be compared" in done.notes[0]


def test_volumes_of_an_unknown_origin_are_said(begun, tmp_path):
    (tmp_path / "out" / SETTINGS_FILE).unlink()
    (note,) = begun(continue_prediction=True).notes
    assert "does not say how they were predicted" in note


def test_settings_that_are_damaged_stop_what_needs_them_alone(begun, tmp_path):
    (tmp_path / "out" / SETTINGS_FILE).write_text('{"model":')
    with pytest.raises(GdmError, match="not valid JSON") as error:
        begun(continue_prediction=True)
    assert "without --continue_prediction" in error.value.remedy
    assert tuple(begun().predicted) == ("a", "b", "c")


def test_volumes_that_an_earlier_prediction_left_are_counted(begun, tmp_path):
    begun()
    change(tmp_path / "out" / SETTINGS_FILE, tta=True)
    (tmp_path / "in" / "c_0000.nii.gz").unlink()
    (note,) = begun().notes
    assert "1 volume of an earlier prediction stay" in note
    assert note.endswith(": c")


@pytest.mark.usefixtures("begun")
def test_the_command_says_what_differs(tmp_path, capsys):
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "--results", tmp_path / "results", "-step_size", "1"]
    words = [*map(str, words), "-device", "cpu", "--no_pbar", "--continue_prediction"]
    assert main([*words, "--tta"]) == 1
    error = capsys.readouterr().err
    assert "tta False" in error
    assert "tta True" in error
    assert main(words) == 0
