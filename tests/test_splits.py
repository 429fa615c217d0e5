"""Folds of the user's own: every form that is in use is read, and no fold scores what it has trained on."""

import json

import pytest

from gdmunet.dataset import Case, Fold
from gdmunet.errors import GdmError
from gdmunet.splits import check_folds, held_out_twice, left_out, read_splits

CASES = [Case(f"head_{i}", (), groups={"patient": f"p{i // 2}"}) for i in range(6)]
FOLDS = (Fold(("head_0", "head_1", "head_2", "head_3"), ("head_4", "head_5")), Fold(("head_4", "head_5"), ("head_0",)))


def as_words(training, validation):
    return [{training: list(fold.training), validation: list(fold.validation)} for fold in FOLDS]


@pytest.mark.parametrize(
    "content",
    [as_words("train", "val"), as_words("training", "validation"), {"folds": as_words("training", "validation")}],
    ids=["splits_final.json of nnU-Net", "folds", "plans"],
)
def test_every_form_in_use_is_read(tmp_path, content):
    (tmp_path / "splits.json").write_text(json.dumps(content))
    folds = read_splits(tmp_path / "splits.json")
    assert folds == FOLDS
    check_folds(folds, CASES, tmp_path / "splits.json")
    assert left_out(folds, CASES) == ()
    assert left_out(folds[1:], CASES) == ("head_1", "head_2", "head_3")


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", "3", '"fold"', "[3]", '[{"train": ["a"]}]', '[{"train": "a", "val": ["b"]}]',
     '[{"train": [1], "val": [2]}]',
     '[{"train": ["a"], "val": ["b"], "test": ["c"]}]', "[{"],
)  # fmt: skip
def test_another_form_is_refused_with_the_form_that_is_read(tmp_path, content):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(GdmError) as error:
        read_splits(tmp_path / "splits.json")
    assert error.value.file == tmp_path / "splits.json"
    assert "not valid JSON" in error.value.problem or '"train": ["case_1"' in error.value.expected


@pytest.mark.parametrize(
    ("training", "validation", "problem", "case"),
    [
        (("head_0", "head_2"), ("head_2",), "a case is in both halves of fold 0", "head_2"),
        (("head_0",), ("head_1",), "a patient is in both halves of fold 0", "head_1"),
        (("head_0", "head_9"), ("head_2",), "training cases of fold 0 are not all in the data set", "head_9"),
        (("head_0",), ("head_2", "Head_2"), "validation cases of fold 0 are not all in the data set", "Head_2"),
        (("head_0", "head_0"), ("head_2",), "training cases of fold 0 name a case twice", "head_0"),
        (("head_0",), ("head_2", "head_2"), "validation cases of fold 0 name a case twice", "head_2"),
        ((), ("head_2",), "training cases of fold 0 are none", None),
        (("head_0",), (), "validation cases of fold 0 are none", None),
    ],
)
def test_a_fold_that_could_not_be_scored_honestly_is_refused(training, validation, problem, case):
    with pytest.raises(GdmError, match=problem) as error:
        check_folds([Fold(training, validation)], CASES, "splits.json")
    assert error.value.case == case
    assert error.value.remedy


def test_cases_that_several_folds_hold_out_are_found():
    assert held_out_twice([("a", "b"), ("b", "c"), ("c", "b")]) == ("b", "c")
