import pytest
from prediction_samples import make_model

from gdmunet.errors import GdmError
from gdmunet.inference.models import resolve_model
from gdmunet.results import ModelName, ResultsFolder


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


def test_what_does_not_exist_is_answered_with_what_does(tmp_path):
    make_model(tmp_path)
    with pytest.raises(GdmError, match=r"no trained model fits[\s\S]*-d 999 -c 3d"):
        resolve_model(tmp_path, 501)
    with pytest.raises(GdmError, match=r"there is no trained model[\s\S]*gdm_train"):
        resolve_model(tmp_path / "empty")


def test_a_folder_without_weights_is_no_model(tmp_path):
    folder = make_model(tmp_path)
    for file in folder.glob("fold_*/*.safetensors"):
        file.unlink()
    assert ResultsFolder(tmp_path).models() == []
