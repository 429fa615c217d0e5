"""The border for foreign bytes: plain values within limits pass, everything else is an error with the file."""

import json
import os
import tracemalloc

import pytest

from gdmunet import foreign
from gdmunet.dataset import load_descriptor
from gdmunet.errors import GdmError
from gdmunet.foreign import MOST_DEPTH, parse_json, read_bounded, reading
from gdmunet.serialization import read_json

DESCRIPTOR = {"channel_names": {"0": "CT"}, "target_name": "CT", "file_ending": ".nii.gz", "numTraining": 1}


@pytest.mark.parametrize(
    "text",
    [
        '{"background": 1e400}', '{"background": -1e999}', '{"background": NaN}', '{"background": Infinity}',
        '{"numTraining": 9223372036854775808}', '{"numTraining": ' + "1" * 5000 + "}",
        '{"numTraining": -1' + "0" * 400 + "}", "[" * 100_000, '{"info": ' + '{"a": ' * 5000 + "1" + "}" * 5001,
        "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1),
        '{"name": "\\ud800"}', '{"name": "a\\u0000b"}', '{"a\\u0000": 1}', '{"a": 1, "a": 2}', "", "3 4", "\ufeff{}",
    ],
)  # fmt: skip
def test_what_no_writer_means_is_an_error_with_the_file(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    with pytest.raises(GdmError) as raised:
        load_descriptor(tmp_path)
    assert raised.value.file == tmp_path / "dataset.json"
    assert raised.value.found is not None


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"\x80", b'{"name": "\xed\xa0\x80"}', b"\0" * 100])
def test_bytes_that_are_not_utf8_are_an_error_with_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(GdmError, match="is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_what_is_in_range_passes_as_it_is():
    values = {"a": [1, -1.5, 2**63 - 1, -(2**63), 1e308, None, True, "\u00e9\n", {}, []], "b": {"c": "\U0001f600"}}
    assert parse_json(json.dumps(values)) == values
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert json.dumps(parse_json(deep)) == deep


def test_too_many_values_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(foreign, "MOST_VALUES", 100)
    with pytest.raises(ValueError, match="more than 100 values"):
        parse_json("[" + "[]," * 100 + "[]]")


def test_a_large_file_a_folder_and_a_pipe_are_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b"[" + b" " * 100 + b"]")
    with pytest.raises(GdmError, match="larger than such a file can be"):
        read_bounded(file, 100)
    assert read_bounded(file, 102) == file.read_bytes()
    with pytest.raises(GdmError, match="is not a file"):
        read_bounded(tmp_path)
    if hasattr(os, "mkfifo"):  # reading it would wait for ever
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(GdmError, match="is not a file"):
            read_bounded(tmp_path / "pipe")


@pytest.mark.parametrize(
    "error", [RecursionError(), OverflowError("x"), KeyError("k"), MemoryError(), ValueError("v\nw")]
)
def test_whatever_fails_while_reading_names_the_file(error):
    with pytest.raises(GdmError) as raised, reading("it cannot be read", "a.bin", case="c", remedy="copy it"):
        raise error
    facts = raised.value
    assert (facts.problem, facts.file, facts.case, facts.remedy) == ("it cannot be read", "a.bin", "c", "copy it")
    assert facts.found
    assert "\n" not in facts.found


def test_what_may_name_a_patient_is_not_told():
    with pytest.raises(GdmError) as raised, reading("it cannot be read", "a.dcm", private=True):
        raise ValueError("Doe^Jane is not a number")
    assert raised.value.found == "ValueError"
    assert raised.value.__cause__ is None


def test_a_small_file_takes_little_memory(tmp_path):
    file = tmp_path / "small.json"
    file.write_text("{}")
    tracemalloc.start()
    try:
        assert read_bounded(file) == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
