"""A request said as a command line is the request again when the command line is read."""

from dataclasses import MISSING, replace
from pathlib import Path

import pytest

from gdmunet.cli.flags import parser_of, request_from
from gdmunet.errors import CommandLine, GdmError
from gdmunet.paths import Folders, find_folders
from gdmunet.workflows.requests.catalogue import REQUESTS
from gdmunet.workflows.requests.command_lines import command_line, complete, with_folders
from gdmunet.workflows.requests.declaration import request_fields
from gdmunet.workflows.requests.planning import PreprocessRequest
from gdmunet.workflows.requests.training import TrainRequest

SAMPLES = {str: "5", int: 7, float: 0.25, Path: Path("a folder/b")}
# What a command needs beside the values that have no default.
NEEDED = {"gdm_download_encoder": {"name": "mini"}, "gdm_audit_encoder": {"dataset": "5"}}


def sample(field):
    """A value other than the default."""
    one = next((value for value in field.choices or () if value != field.default), SAMPLES.get(field.kind.scalar))
    if field.kind.scalar is bool:
        return not field.default
    if field.kind.count == "map":
        return {"name": "value", "other": "a=b"}
    return (one,) * (1 if field.kind.count == "+" else field.kind.count) if field.kind.count else one


def least(kind):
    """The request with what it needs alone."""
    required = {field.name: sample(field) for field in request_fields(kind) if field.default is MISSING}
    return kind(**required, **NEEDED.get(kind.synopsis.name, {}))


def read(command):
    kind = next(kind for kind in REQUESTS if kind.synopsis.name == command.words[0])
    return request_from(kind, parser_of(kind).parse_args(command.words[1:]))


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_every_field_of_a_request_is_said(kind):
    request, said = least(kind), 0
    assert read(command_line(request)) == request
    for field in request_fields(kind):
        try:
            changed = replace(request, **{field.name: sample(field)})
        except GdmError:  # it excludes another field or needs one, or has bounds of its own
            continue
        assert read(command_line(changed)) == changed
        said += 1
    assert said > len(request_fields(kind)) / 2


def test_defaults_are_left_out():
    request = TrainRequest(dataset="5", configuration="2d", plans="my plans", validate="best")
    assert str(command_line(request)) == "gdm_train 5 2d -p 'my plans' --val_best"


def test_folders_that_were_typed_are_repeated_where_the_command_uses_them():
    folders = find_folders(raw="my raw", results="results")
    command = command_line(PreprocessRequest(dataset="5"), folders)
    assert command.words == ("gdm_preprocess", "-d", "5", "--raw", "my raw")
    assert with_folders(command, folders) == command


def test_folders_that_were_not_typed_are_left_out():
    folders = Folders(Path("raw"), Path("preprocessed"), Path("results"))
    assert command_line(PreprocessRequest(dataset="5"), folders).words == ("gdm_preprocess", "-d", "5")


def test_the_command_of_an_error_is_completed():
    error = GdmError("bad", command=CommandLine("gdm_train", 5, "2d"))
    complete(error, find_folders(preprocessed="p"))
    assert str(error) == "bad\n  remedy: run gdm_train 5 2d --preprocessed p"
