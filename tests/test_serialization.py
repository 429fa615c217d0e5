"""The strict codec: exact round trips, and errors that say the path of the key."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

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
    ("change", "message"),
    [
        (
            lambda v: v["parts"]["3d"].update(patch_sise=3),
            r"plans.parts\['3d'\].patch_sise: unknown key, did you mean patch_size\?",
        ),
        (lambda v: v.update(zzz=3), r"plans.zzz: unknown key$"),
        (lambda v: v.pop("name"), r"plans.name: missing key"),
        (lambda v: v.update(name=3), r"plans.name: found 3, expected a text"),
        (lambda v: v.update(flag=1), r"plans.flag: found 1, expected true or false"),
        (lambda v: v.update(share="a"), r"plans.share: found .*a number"),
        (lambda v: v.update(share=True), r"plans.share: found true, expected a number"),
        (lambda v: v.update(parts=[]), r"plans.parts: found .*an object"),
        (lambda v: v["parts"]["3d"].update(spacing=[1, 2]), r"spacing: found .*a list of 3"),
        (lambda v: v["parts"]["3d"].update(kind="residul"), r"kind: found .*did you mean residual\?"),
        (lambda v: v.update(numbers=[1, True]), r"plans.numbers\[1\]: found true, expected a whole number"),
        (lambda v: v.update(name=None), r"plans.name: found null"),
    ],
)
def test_an_error_names_the_path_of_the_key(change, message):
    content = json_of(VALUE)
    change(content)
    with pytest.raises(GdmError, match=message):
        from_json(Outer, content, "plans")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_without_a_json_form_are_refused_both_ways(value, tmp_path):
    with pytest.raises(ValueError, match="no JSON form"):
        to_json({"a": value})
    (tmp_path / "a.json").write_text(json.dumps({"a": value}))
    with pytest.raises(GdmError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_key_given_twice_is_an_error(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "x", "name": "y"}')
    with pytest.raises(GdmError, match="name.*twice"):
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


def test_a_list_of_numbers_stays_on_one_line():
    assert '"patch_size": [8, 16]' in format_json(to_json(VALUE))
    assert json.loads(format_json(to_json(VALUE))) == json_of(VALUE)


def test_an_error_survives_the_way_between_processes():
    error = GdmError("bad", case="head", file="a.nii", found=1, expected=2, remedy="mend")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
