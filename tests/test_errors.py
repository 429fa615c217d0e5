"""The error of the user: facts as attributes, one text made of them."""

import pickle

import pytest

from gdmunet.errors import CommandLine, GdmError

FACTS = {"case": "head", "file": "a.nii", "found": (1, 2), "expected": 2, "remedy": "mend it"}


def test_the_text_has_a_fixed_order():
    backwards = dict(reversed(FACTS.items()))
    lines = ["bad", "  case: head", "  file: a.nii", "  found: (1, 2)", "  expected: 2", "  remedy: mend it"]
    assert str(GdmError("bad", **backwards)).splitlines() == lines


def test_facts_that_are_not_given_have_no_line():
    assert str(GdmError("bad", found=0)) == "bad\n  found: 0"


def test_located_fills_in_what_is_missing_before_the_remedy():
    error = GdmError("bad", remedy="mend it")
    assert error.located(case="head", file="a.nii") is error
    assert str(error).splitlines() == ["bad", "  case: head", "  file: a.nii", "  remedy: mend it"]


def test_located_never_overwrites():
    error = GdmError("bad", **FACTS).located(case="other", file="other", remedy="other")
    assert {name: getattr(error, name) for name in FACTS} == FACTS


def test_within_names_the_place_before_the_problem():
    assert str(GdmError("bad", found=0).within("b").within("a")) == "a: b: bad\n  found: 0"


def test_one_line_has_no_line_break():
    assert GdmError("bad", found="\nfirst\n  second").one_line() == "bad found: first second"


def test_every_fact_survives_the_way_between_processes():
    error = GdmError("bad", **FACTS, command=CommandLine("gdm_train", 5)).located()
    error.add_note("in case head")
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert str(again) == str(error)
    assert again.args == error.args


def test_a_fact_that_cannot_be_sent_arrives_as_its_text():
    def local():
        return None

    again = pickle.loads(pickle.dumps(GdmError("bad", found=local)))
    assert again.found == str(local)


def test_a_command_is_printed_quoted():
    assert str(CommandLine("gdm_train", 5, "-p", "my plans")) == "gdm_train 5 -p 'my plans'"


@pytest.mark.parametrize(
    ("remedy", "text"),
    [
        (None, "run gdm_train 5"),
        ("train it", "train it: gdm_train 5"),
        ("choose another, or run {command} again", "choose another, or run gdm_train 5 again"),
    ],
)
def test_a_remedy_holds_its_command(remedy, text):
    assert str(GdmError("bad", remedy=remedy, command=CommandLine("gdm_train", 5))) == f"bad\n  remedy: {text}"
