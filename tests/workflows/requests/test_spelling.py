"""A request becomes the command line that makes it again."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmunet.cli.flags import parser_of, request_from
from gdmunet.workflows.requests.catalogue import REQUESTS
from gdmunet.workflows.requests.declaration import request_fields
from gdmunet.workflows.requests.evaluation import EvaluateRequest
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest

WORDS = st.text("abcXYZ_09. ", min_size=1, max_size=6)


def scalars(field):
    if field.choices is not None:
        return st.sampled_from(field.choices)
    if field.kind.scalar is str:
        return WORDS
    if field.kind.scalar is Path:
        return WORDS.map(Path)
    numbers = st.integers(1, 9)
    if field.kind.scalar is float:
        return numbers.map(lambda number: number / 10)
    return numbers


def values(field):
    if field.kind.scalar is bool:
        return st.booleans()
    if field.kind.count == "map":
        return st.dictionaries(st.sampled_from("abc"), WORDS, max_size=2)
    if field.kind.count == "+":
        return st.lists(scalars(field), min_size=1, max_size=3).map(tuple)
    if field.kind.count is not None:
        return st.tuples(*[scalars(field)] * field.kind.count)
    return scalars(field)


@st.composite
def fields_of(draw, kind):
    """Values of the required fields and of some others, at most one of each group."""
    chosen, groups = {}, set()
    for field in request_fields(kind):
        group = field.flag.group
        if field.required or (group not in groups and draw(st.booleans())):
            chosen[field.name] = draw(values(field))
            groups |= {group} - {None}
    return chosen


# What contradicts itself or needs another option is tested where it is refused.
FREE = [kind for kind in REQUESTS if kind.__post_init__ is TrainRequest.__post_init__]


@pytest.mark.parametrize("kind", FREE, ids=lambda kind: kind.synopsis.name)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_words_make_the_same_request(kind, data):
    request = kind(**data.draw(fields_of(kind)))
    words = command_line(request).words
    assert words[0] == kind.synopsis.name
    assert request_from(kind, parser_of(kind).parse_args(words[1:])) == request
    assert shlex.split(str(command_line(request))) == list(words)


def test_most_requests_are_free():
    assert len(FREE) > len(REQUESTS) / 2


def test_folders_are_passed_to_commands_that_use_them():
    typed = {"raw": Path("my raw"), "results": Path("out")}
    evaluation = EvaluateRequest(reference="a", prediction="b")
    assert str(command_line(evaluation, typed)) == "gdm_evaluate -ref a -pred b --raw 'my raw'"
    planning = PlanAndPreprocessRequest(dataset=(501, 502), preprocess=False)
    assert str(command_line(planning)) == "gdm_plan_and_preprocess -d 501 502 --no_pp"
    training = TrainRequest(dataset=501, configuration="2d", validate="best", settings={"a": 1})
    assert str(command_line(training)) == "gdm_train 501 2d --set a=1 --val_best"
