import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmunet.errors import GdmError
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.registry import find_trainer, named_trainers, nearest_named
from gdmunet.training.trainers.settings import format_value, parse_value, parts_of_name


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
    assert parts_of_name(derived.__name__) == ("FidelityTrainer", {name})


@pytest.mark.parametrize("value", [7, 1e-5, 0.1, True, False, None, "cosine", "none", (0.05,), (0.8, 0.99), (), ("a",)])
def test_a_setting_written_as_text_is_read_as_it_was(value):
    kinds = {tuple: tuple[str, ...] if value == ("a",) else tuple[float, ...], type(None): int | None}
    text = format_value(list(value) if isinstance(value, tuple) else value)
    assert parse_value(text, kinds.get(type(value), type(value)), "setting") == value


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
KINDS = {
    "int": (int, st.integers()),
    "float": (float, NUMBERS),
    "bool": (bool, st.booleans()),
    "pair": (tuple[float, float], st.tuples(NUMBERS, NUMBERS)),
    "list": (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    "number or none": (int | None, st.none() | st.integers()),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_value_of_a_setting_survives_its_text(kind, data):
    annotation, values = KINDS[kind]
    value = data.draw(values)
    read = parse_value(format_value(value), annotation, "setting")
    assert read == value
    assert type(read) is type(value)


def is_whole_number(text):
    try:
        int(text)
    except ValueError:
        return False
    return True


@given(text=st.text(max_size=20) | st.integers().map(str))
def test_any_text_is_a_value_or_an_error_that_says_what_was_expected(text):
    if is_whole_number(text):
        assert parse_value(text, int, "setting") == int(text)
        return
    with pytest.raises(GdmError) as caught:
        parse_value(text, int, "setting")
    assert caught.value.found == text
    assert caught.value.expected == "int"


def test_a_version_of_a_trainer_says_what_it_changes():
    class Mine(FidelityTrainer):
        epochs = 3
        sharpness: float = 0.5

    derived = Mine.derive({"sharpness": "2"})
    assert nearest_named(derived) is FidelityTrainer
    assert derived.changed_from(FidelityTrainer) == {"epochs": 3, "sharpness": 2.0}
    assert FidelityTrainer.changed_from(FidelityTrainer) == {}


def test_a_new_file_of_the_folder_is_a_new_trainer_and_no_list_has_to_know_it(tmp_path, monkeypatch):
    """The recipe of CONTRIBUTING: one file. Its bases and what it imports are not listed under it."""
    package = tmp_path / "more_trainers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "smooth.py").write_text(
        "from gdmunet.training.trainers.fidelity import FidelityTrainer\n"
        "from gdmunet.training.trainers.trainer import Trainer\n"
        "class SmoothTrainer(FidelityTrainer):\n    fidelity_loss = 'smooth_l1'\n"
        "class Unfinished(Trainer):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert [*named_trainers("more_trainers")] == ["SmoothTrainer"]
    import gdmunet.training.trainers as ours

    monkeypatch.setattr(ours, "__path__", [*ours.__path__, str(package)])
    try:
        assert find_trainer("SmoothTrainer").fidelity_loss == "smooth_l1"
        with pytest.raises(GdmError, match="did you mean SmoothTrainer") as error:
            find_trainer("SmothTrainer")
        assert "SmoothTrainer" in str(error.value.expected)
        assert "Unfinished" not in str(error.value)
    finally:
        sys.modules.pop("gdmunet.training.trainers.smooth", None)
        vars(ours).pop("smooth", None)


def test_the_trainers_that_have_names():
    """What leaves a hook unwritten cannot train, and has none."""
    names = named_trainers()
    assert {"GDMTrainer", "FidelityTrainer", "AdversarialTrainer", "BridgeTrainer", "GDMTrainerNoBank"} <= names.keys()
    assert not {"Trainer", "EncoderTrainer", "StepwiseTrainer"} & names.keys()
    assert all(name == kind.__name__ for name, kind in names.items())


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
