"""Both sides of a join are counted and the rest is named; names that look alike are an error."""

import pytest

from gdmunet.errors import GdmError
from gdmunet.plausibility.names import check_distinct, check_groups, leftovers


@pytest.mark.parametrize("other", ["P1", "p1 ", " p1", "p 1", "\uff501"])
def test_names_that_look_alike_are_an_error_that_shows_both(other):
    with pytest.raises(GdmError, match="differ in case, space or Unicode form") as raised:
        check_distinct(["p1", "p2", other], "cases")
    assert repr("p1") in raised.value.found
    assert ascii(other) in raised.value.found


def test_two_forms_of_one_letter_are_an_error():
    with pytest.raises(GdmError, match="Unicode form"):
        check_distinct(["Müller", "Mu\u0308ller"], "cases")


@pytest.mark.parametrize(
    "groups",
    [
        {"p1": {"region": "Thorax"}, "p2": {"region": "thorax"}},
        {"p1": {"region": "thorax"}, "p2": {"region": "thorax "}},
        {"p1": {"region": "AB"}, "p2": {"Region": "AB"}},
        {"p1": {"region": "AB"}, "P1": {"region": "AB"}},
    ],
)
def test_groups_that_look_alike_are_an_error(groups):
    with pytest.raises(GdmError):
        check_groups(groups)


def test_a_misspelt_case_is_named_from_both_sides():
    (found,) = leftovers(["p1", "p2", "p3"], ["p1", "p2", "q3"], "the table")
    assert "3 cases and 3 lines" in found.found
    assert "1 case without a line: p3" in found.found
    assert "1 line without a case: q3" in found.found


@pytest.mark.parametrize("partial", [False, True])
def test_a_name_that_differs_in_its_spelling_alone_is_an_error(partial):
    with pytest.raises(GdmError):
        leftovers(["p1", "p2"], ["p1", "P2"], "the table", partial=partial)


def test_a_table_of_a_whole_data_set_may_name_more_cases():
    assert leftovers(["p1"], ["p1", "p2"], "the table", partial=True) == []
    assert len(leftovers(["p1"], ["p1", "p2"], "the table")) == 1


def test_without_a_table_nothing_is_left_over():
    assert leftovers(["p1"], [], "the table") == []
