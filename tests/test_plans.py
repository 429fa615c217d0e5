import pytest
from prediction_samples import make_configuration, make_descriptor, make_plans

from gdmunet.dataset import Fold
from gdmunet.errors import GdmError
from gdmunet.plan_names import first_to_train

FOLDS = (Fold(("a", "b"), ("c",)), Fold(("c", "b"), ("a",)))


def plans(folds=FOLDS):
    return make_plans(make_configuration(), make_descriptor(), folds=folds)


def test_a_fold_is_found_by_its_number_and_all_is_every_case():
    assert plans().fold("1") == FOLDS[1]
    assert plans().fold("all", ["a", "b", "c"]) == Fold(("a", "b", "c"), ("a", "b", "c"))


@pytest.mark.parametrize("wanted", ["2", "-1", "x", "²", ""])
def test_an_unknown_fold_lists_the_known_ones(wanted):
    """One message wherever a fold is looked up; ² is a digit, yet not a number that int() reads."""
    with pytest.raises(GdmError) as raised:
        plans().fold(wanted, ["a", "b", "c"])
    assert raised.value.problem == f"fold {wanted} is not in the plans"
    assert (raised.value.found, raised.value.expected) == ("plain has 2 folds", "0, 1, all")


def test_all_holds_no_case_out_where_cases_must_be_held_out():
    with pytest.raises(GdmError) as raised:
        plans().fold("all")
    assert raised.value.expected == "0, 1"
    with pytest.raises(GdmError, match="take fold all"):
        plans(folds=()).fold("0", ["a"])


def test_the_configuration_to_begin_with_is_the_full_one_in_3d():
    assert first_to_train(["2d", "3d_fullres", "3d_lowres"]) == "3d_fullres"
    assert first_to_train(["2d"]) == "2d"
