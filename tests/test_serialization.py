"""The strict codec: exact round trips, and errors that say the path of the key."""

import json
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmunet.errors import GdmError
from gdmunet.serialization import format_json, from_json, load_json, read_json, save_json, to_json


@dataclass(frozen=True)
class Inner:
    patch_size: tuple[int, ...]
    spacing: tuple[float, float, float]
    kind: Literal["plain", "residual"] = "plain"


@dataclass(frozen=True)
class Outer:
    name: str
    parts: dict[str, Inner]
    share: float | None = None
    flag: bool = False
    numbers: list[int] = field(default_factory=list)
    place: Path = Path("a/b")


VALUE = Outer("x", {"3d": Inner((8, 16), (1.0, 0.1, 1 / 3), "residual")}, 0.25, True, [1, 2], Path("c"))


def json_of(value):
    return json.loads(json.dumps(to_json(value)))


def test_a_value_comes_back_equal(tmp_path):
    save_json(VALUE, tmp_path / "a.json")
    assert load_json(Outer, tmp_path / "a.json") == VALUE


def test_left_out_keys_take_their_defaults():
    assert from_json(Outer, {"name": "x", "parts": {}}) == Outer("x", {})


def test_whole_numbers_are_numbers_but_not_the_other_way_round():
    spacing = from_json(Inner, {"patch_size": [1], "spacing": [1, 2, 3]}).spacing
    assert all(isinstance(value, float) for value in spacing)
    with pytest.raises(GdmError, match="whole number"):
        from_json(Inner, {"patch_size": [1.5], "spacing": [1, 2, 3]})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda v: v["parts"]["3d"].update(patch_sise=3),
            "parts['3d'].patch_sise: unknown key, did you mean patch_size?",
        ),
        (lambda v: v.update(zzz=3), "zzz: unknown key"),
        (lambda v: v.pop("name"), "name: missing key"),
    ],
)
def test_an_error_names_the_path_of_the_key(change, problem):
    content = json_of(VALUE)
    change(content)
    with pytest.raises(GdmError) as caught:
        from_json(Outer, content, "plans")
    assert str(caught.value) == f"plans.{problem}"


@pytest.mark.parametrize(
    ("change", "place", "found", "expected"),
    [
        (lambda v: v.update(name=3), "name", "3", "a text"),
        (lambda v: v.update(name=None), "name", "null", "a text"),
        (lambda v: v.update(flag=1), "flag", "1", "true or false"),
        (lambda v: v.update(share="a"), "share", '"a"', "a number"),
        (lambda v: v.update(share=True), "share", "true", "a number"),
        (lambda v: v.update(parts=[]), "parts", "[]", "an object"),
        (lambda v: v["parts"]["3d"].update(spacing=[1, 2]), "parts['3d'].spacing", "[1, 2]", "a list of 3"),
        (lambda v: v["parts"]["3d"].update(kind="x"), "parts['3d'].kind", '"x"', "one of 'plain', 'residual'"),
        (lambda v: v.update(numbers=[1, True]), "numbers[1]", "true", "a whole number"),
    ],
)
def test_a_wrong_type_says_place_and_found_and_expected(change, place, found, expected):
    content = json_of(VALUE)
    change(content)
    with pytest.raises(GdmError) as caught:
        from_json(Outer, content, "plans")
    error = caught.value
    assert (error.problem, error.found, error.expected) == (f"plans.{place}: wrong value", found, expected)


def test_a_wrong_choice_names_the_nearest():
    with pytest.raises(GdmError, match=r"kind: wrong value, did you mean residual\?"):
        from_json(Inner, {"patch_size": [1], "spacing": [1, 2, 3], "kind": "residul"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_without_a_json_form_are_refused_both_ways(value, tmp_path):
    with pytest.raises(ValueError, match="no JSON form"):
        to_json({"a": value})
    (tmp_path / "a.json").write_text(json.dumps({"a": value}))
    with pytest.raises(GdmError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_key_given_twice_is_an_error(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "x", "name": "y"}')
    with pytest.raises(GdmError, match=r"name.*twice"):
        read_json(tmp_path / "a.json")


def test_objects_without_a_json_form_are_refused():
    with pytest.raises(TypeError, match="no JSON form"):
        to_json({"a": {1, 2}})


def test_a_missing_or_broken_file_names_itself(tmp_path):
    with pytest.raises(GdmError, match="missing") as caught:
        load_json(Outer, tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(caught.value)
    (tmp_path / "a.json").write_text('{"name": ')
    with pytest.raises(GdmError, match="not valid JSON"):
        load_json(Outer, tmp_path / "a.json")


def test_a_wrong_key_in_a_file_names_file_and_key(tmp_path):
    (tmp_path / "plans.json").write_text('{"name": "x", "prts": {}}')
    with pytest.raises(GdmError, match=r"plans.prts: unknown key, did you mean parts\?") as caught:
        load_json(Outer, tmp_path / "plans.json")
    assert f"file: {tmp_path / 'plans.json'}" in str(caught.value)


@dataclass(frozen=True)
class Checked:
    size: int

    def __post_init__(self):
        if self.size < 1:
            raise GdmError("the size is too small", found=self.size, expected="1 or more", remedy="give a larger one")


@dataclass(frozen=True)
class Holder:
    part: Checked


def test_a_check_of_a_dataclass_keeps_its_facts_and_gets_path_and_file(tmp_path):
    (tmp_path / "plans.json").write_text('{"part": {"size": 0}}')
    with pytest.raises(GdmError) as caught:
        load_json(Holder, tmp_path / "plans.json")
    error = caught.value
    assert error.problem == "plans.part: the size is too small"
    assert (error.file, error.found, error.expected) == (tmp_path / "plans.json", 0, "1 or more")
    assert error.remedy == "give a larger one"


def test_a_wrong_type_says_found_and_expected_as_facts(tmp_path):
    (tmp_path / "plans.json").write_text('{"part": {"size": "large"}}')
    with pytest.raises(GdmError) as caught:
        load_json(Holder, tmp_path / "plans.json")
    error = caught.value
    assert (error.problem, error.found, error.expected) == ("plans.part.size: wrong value", '"large"', "a whole number")
    assert (error.file, error.remedy) == (tmp_path / "plans.json", "correct that key, or make the file anew")


def test_a_list_of_numbers_stays_on_one_line():
    assert '"patch_size": [8, 16]' in format_json(to_json(VALUE))
    assert json.loads(format_json(to_json(VALUE))) == json_of(VALUE)


NAMES = st.sampled_from(["a", "b_c", "spacing", "patch_size", "kind", "value", "self_"])
TEXTS = st.text('ab"\\/\n ü€\u2028\x00', max_size=8)
SCALARS = st.sampled_from(
    [
        (int, st.integers(-(2**40), 2**40)),
        (float, st.floats(allow_nan=False, allow_infinity=False)),
        (bool, st.booleans()),
        (str, TEXTS),
        (Path, st.builds(Path, st.sampled_from(["a", "a/b.nii.gz", "/"]))),
        (Literal["plain", "residual"], st.sampled_from(["plain", "residual"])),
    ]
)


@st.composite
def nested(draw, kinds):
    """A kind that holds others, and the strategy of its values."""
    kind, values = draw(kinds)
    shape = draw(st.sampled_from(["list", "tuple", "pair", "dict", "optional", "dataclass"]))
    if shape == "list":
        return list[kind], st.lists(values, max_size=3)
    if shape == "tuple":
        return tuple[kind, ...], st.lists(values, max_size=3).map(tuple)
    if shape == "pair":
        return tuple[kind, kind], st.tuples(values, values)
    if shape == "dict":
        return dict[str, kind], st.dictionaries(TEXTS, values, max_size=3)
    if shape == "optional":
        return kind | None, st.none() | values
    return draw(dataclasses_of(st.just((kind, values))))


@st.composite
def dataclasses_of(draw, kinds):
    """A new dataclass, and the strategy of its values."""
    members = draw(st.dictionaries(NAMES, kinds, min_size=1, max_size=4))
    made = make_dataclass("Made", [(name, kind) for name, (kind, _) in members.items()], frozen=True)
    return made, st.builds(made, **{name: values for name, (_, values) in members.items()})


KINDS = st.recursive(SCALARS, nested, max_leaves=4)


@given(dataclasses_of(KINDS), st.data())
def test_any_dataclass_comes_back_equal(made, data):
    kind, values = made
    value = data.draw(values)
    again = from_json(kind, json.loads(format_json(to_json(value))))
    assert again == value
    assert to_json(again) == to_json(value)


@given(dataclasses_of(KINDS), NAMES, st.data())
def test_any_unknown_key_is_named_with_its_path(made, key, data):
    kind, values = made
    content = to_json(data.draw(values))
    known = key in content
    content[key + ("x" if known else "")] = 1
    with pytest.raises(GdmError) as caught:
        from_json(kind, content, "file")
    assert caught.value.problem.startswith(f"file.{key + ('x' if known else '')}: unknown key")


@given(dataclasses_of(KINDS), st.data())
def test_any_required_key_that_is_missing_is_named_with_its_path(made, data):
    kind, values = made
    content = to_json(data.draw(values))
    left_out = data.draw(st.sampled_from([one.name for one in fields(kind) if one.default is MISSING]))
    del content[left_out]
    with pytest.raises(GdmError) as caught:
        from_json(kind, content, "file")
    assert caught.value.problem == f"file.{left_out}: missing key"
