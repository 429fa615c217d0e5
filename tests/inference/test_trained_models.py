import dataclasses

import pytest
from prediction_samples import SPACING, make_model

from gdmunet.checkpoint import load_weights, save_weights
from gdmunet.cli.predict import main as predict_main
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.inference.trained_models import load_model, resolve_model
from gdmunet.provenance import ProvenanceSpec
from gdmunet.results import ModelFolder, ModelName, ResultsFolder


def test_one_model_is_found_without_a_word(tmp_path):
    folder = make_model(tmp_path)
    model = resolve_model(tmp_path)
    assert model.path == folder
    assert (model.dataset, model.name) == ("Dataset999_Test", ModelName("FidelityTrainer", "plain", "3d"))
    assert model.trained_folds() == {"0": ("best",), "1": ("best",)}


def test_several_models_are_listed_with_the_flags_that_choose_one(tmp_path):
    make_model(tmp_path)
    flat = make_model(tmp_path, ("0",), (8, 8))
    with pytest.raises(GdmError, match=r"several trained models fit") as caught:
        resolve_model(tmp_path)
    assert "-d 999 -c 2d -tr FidelityTrainer -p plain   folds 0 (best)" in str(caught.value)
    assert "-d 999 -c 3d -tr FidelityTrainer -p plain   folds 0 (best), 1 (best)" in str(caught.value)
    assert resolve_model(tmp_path, configuration="2d").path == flat
    assert resolve_model(tmp_path, 999, "2d", "FidelityTrainer", "plain").path == flat
    assert resolve_model(tmp_path, "Test", "2d").path == flat


@pytest.fixture
def stopped(tmp_path):
    """A training that was stopped in its first epochs beside a finished one of two folds."""
    finished = make_model(tmp_path / "results")
    folder = finished.rename(finished.with_name("GDMTrainer__plain__3d"))
    make_model(tmp_path / "results", ("0",), checkpoint="latest")
    return folder


def test_a_model_without_the_asked_checkpoint_is_not_a_candidate(stopped, tmp_path):
    results = tmp_path / "results"
    assert resolve_model(results).path == stopped
    assert resolve_model(results, folds=("1",)).path == stopped
    assert resolve_model(results, checkpoint="latest").name.trainer == "FidelityTrainer"
    with pytest.raises(GdmError, match="several trained models fit"):
        resolve_model(results, checkpoint="final")
    # The only one of its name: loading says what it lacks.
    assert resolve_model(results, trainer="FidelityTrainer").name.trainer == "FidelityTrainer"


def test_a_stopped_run_beside_a_finished_one_needs_no_more_flags(stopped, tmp_path, head, capsys):
    write_volume(tmp_path / "in" / "a_0000.nii.gz", head, Geometry(head.shape, SPACING))
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    assert predict_main([*words, "--no_pbar"]) == 0
    assert str(stopped) in capsys.readouterr().out
    assert (tmp_path / "out" / "a.nii.gz").is_file()


def test_what_does_not_exist_is_answered_with_what_does(tmp_path):
    make_model(tmp_path)
    with pytest.raises(GdmError, match=r"no trained model fits[\s\S]*-d 999 -c 3d"):
        resolve_model(tmp_path, 501)
    with pytest.raises(GdmError, match=r"there is no trained model[\s\S]*train one"):
        resolve_model(tmp_path / "empty")


def test_a_folder_without_weights_is_no_model(tmp_path):
    folder = make_model(tmp_path)
    for file in folder.glob("fold_*/*.safetensors"):
        file.unlink()
    assert ResultsFolder(tmp_path).models() == []


def test_fold_all_is_averaged_with_numbered_folds_only_if_asked(tmp_path):
    folder = make_model(tmp_path, ("0", "1", "all"))
    model = load_model(folder)
    assert model.folds == ("0", "1")
    assert model.notes[0] == "note: fold all is not averaged with the others; -f all predicts with it alone"
    assert load_model(folder, ("all",)).folds == ("all",)
    assert load_model(folder, ("0", "all")).folds == ("0", "all")
    assert load_model(make_model(tmp_path / "alone", ("all",))).folds == ("all",)


@pytest.mark.parametrize("checkpoint", ["best", "latest"])
@pytest.mark.parametrize(
    "settings", [{"iterations": 800}, {"iterations": None, "epochs": 8, "iterations_per_epoch": 100}]
)
def test_a_fold_that_was_stopped_is_said(tmp_path, checkpoint, settings):
    model = ModelFolder(make_model(tmp_path, checkpoint=checkpoint))
    for fold in (0, 1):
        file = model.fold(fold).checkpoint(checkpoint)
        stored = load_weights(file)
        metadata = dataclasses.replace(stored.metadata, settings=settings)
        save_weights(file, stored.state_dict, stored.network, metadata)
    model.fold(0).resume.touch()
    unfinished = [note for note in load_model(model.path, checkpoint=checkpoint).notes if "unfinished" in note]
    assert len(unfinished) == 1
    assert "fold 0 is unfinished: its training stands at iteration 10 of 800" in unfinished[0]
    model.fold(0).checkpoint("final").touch()
    assert "unfinished" not in str(load_model(model.path, checkpoint=checkpoint).notes)


def test_prediction_says_what_is_unfinished(tmp_path, head, capsys):
    model = ModelFolder(make_model(tmp_path / "results"))
    model.fold(1).resume.touch()
    write_volume(tmp_path / "in" / "a_0000.nii.gz", head, Geometry(head.shape, SPACING))
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    assert predict_main([*words, "--no_pbar", "-device", "cpu", "-step_size", "1"]) == 0
    said = capsys.readouterr().out
    assert "note: fold 1 is unfinished" in said
    assert "note: folds 0, 1 came from an earlier version" in said


@pytest.mark.parametrize("what", ["trainer", "encoder"])
def test_folds_of_two_trainers_or_encoders_are_not_averaged(tmp_path, what):
    model = ModelFolder(make_model(tmp_path))
    for fold in (0, 1):
        file = model.fold(fold).checkpoint("best")
        stored = load_weights(file)
        metadata = dataclasses.replace(stored.metadata, provenance=ProvenanceSpec(**{what: str(fold) * 64}))
        save_weights(file, stored.state_dict, stored.network, metadata)
    with pytest.raises(GdmError, match=f"trained with another {what}, so they are not one model"):
        load_model(model.path)
    assert load_model(model.path, ("1",)).folds == ("1",)
