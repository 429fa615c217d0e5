import pytest

from gdmunet.errors import GdmError
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.registry import find_trainer


def test_a_bare_name_overrides_and_an_unknown_one_is_refused_with_the_nearest():
    class Longer(FidelityTrainer):
        epochs = 7

    assert Longer.settings()["epochs"] == 7
    with pytest.raises(GdmError, match="did you mean epochs"):
        type("Typo", (FidelityTrainer,), {"epoch_s": 7})


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(GdmError, match="wrong type"):
        type("Wrong", (FidelityTrainer,), {"epochs": "seven"})


def test_an_annotated_name_declares_a_setting():
    class Declares(FidelityTrainer):
        sharpness: float = 0.5

    assert Declares.settings()["sharpness"] == 0.5
    assert Declares.derive({"sharpness": "2"}).settings()["sharpness"] == 2.0


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "5", 5),
        ("learning_rate", "1e-3", 0.001),
        ("betas", "0.8,0.99", (0.8, 0.99)),
        ("mirror", "false", False),
        ("iterations", "none", None),
        ("iterations", "12", 12),
        ("fidelity_loss", "mse", "mse"),
    ],
)
def test_flags_derive_a_trainer_whose_name_says_the_setting(name, text, value):
    derived = FidelityTrainer.derive({name: text})
    assert getattr(derived, name) == value
    assert derived.__name__.startswith(f"FidelityTrainer-{name}=")


@pytest.mark.parametrize(("name", "text"), [("epochs", "five"), ("mirror", "1"), ("betas", "0.9"), ("schedule", "cos")])
def test_a_text_that_does_not_fit_is_refused(name, text):
    with pytest.raises(GdmError, match=f"setting {name} cannot be read"):
        FidelityTrainer.derive({name: text})


def test_trainers_are_found_by_name_file_and_module(tmp_path):
    assert find_trainer("FidelityTrainer") is FidelityTrainer
    assert find_trainer("gdmunet.training.trainers.fidelity:FidelityTrainer") is FidelityTrainer
    file = tmp_path / "mine.py"
    file.write_text(
        "from gdmunet.training.trainers.fidelity import FidelityTrainer\nclass Mine(FidelityTrainer):\n    epochs = 3\n"
    )
    assert find_trainer(f"{file}:Mine").epochs == 3
    with pytest.raises(GdmError, match="did you mean FidelityTrainer"):
        find_trainer("FidelityTrainr")
    with pytest.raises(GdmError, match="did you mean Mine"):
        find_trainer(f"{file}:Mien")
