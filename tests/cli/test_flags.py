"""From a request to its flags and back: an option is said once."""

from pathlib import Path
from typing import Literal

import pytest

from gdmunet.cli.flags import command, parser_of, request_from
from gdmunet.cli.reference import section
from gdmunet.errors import GdmError
from gdmunet.workflows.requests.declaration import (
    ProgressRequest,
    RequestError,
    Switch,
    Synopsis,
    option,
    request,
    switches,
)
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.values import COUNT, SHARE


@request
class SampleRequest(ProgressRequest):
    synopsis = Synopsis("gdm_sample", "Tests.", folders=("raw", "results"))
    dataset: str = option(help="number or name")
    fold: str = option(help="number of the fold", default="0")
    images: tuple[Path, ...] = option("-i", "--images", help="folders", metavar="DIR")
    spacing: tuple[float, float, float] | None = option(
        "--spacing", help="in mm; default: none", default=None, metavar=("Z", "Y", "X")
    )
    preset: Literal["plain", "tiny"] = option("-pl", "--preset", help="network family", default="plain")
    dimensions: Literal[2, 3] = option("--dimensions", help="of the encoder", default=3)
    samples: int = option("--samples", help="draws", default=1, metavar="K", bounds=COUNT)
    step_size: float = option("-step_size", "--step_size", help="a share", default=0.5, bounds=SHARE)
    settings: dict[str, str] = option("--set", help="settings; default: none", default={}, metavar="NAME=VALUE")
    link: Literal["copy", "symlink"] = option("--link", help="files", default="copy", const="symlink")
    preprocess: bool = option("--no_pp", help="plan only", default=True)
    overwrite: bool = option("--overwrite", help="start over", default=False, group="start")
    validate: Literal["final", "best"] | None = switches(
        Switch("--val", "final", "validate"),
        Switch("--val_best", "best", "validate the best"),
        group="start",
        default=None,
    )


def read(*words):
    return request_from(SampleRequest, parser_of(SampleRequest).parse_args(["501", "-i", "a", *words]))


def test_what_is_not_typed_has_the_field_s_default():
    assert read() == SampleRequest(dataset="501", images=(Path("a"),))


def test_a_flag_that_may_stand_alone_takes_no_word_that_is_not_its_value():
    parser = parser_of(SampleRequest)
    asked = request_from(SampleRequest, parser.parse_args(["--link", "501", "-i", "a"]))
    assert (asked.dataset, asked.link) == ("501", "symlink")


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["all"], "fold", "all"),
        (["-i", "b", "c"], "images", (Path("a"), Path("b"), Path("c"))),
        (["--spacing", "1", "2", "3"], "spacing", (1.0, 2.0, 3.0)),
        (["-pl", "tiny"], "preset", "tiny"),
        (["--dimensions", "2"], "dimensions", 2),
        (["-step-size", "1"], "step_size", 1.0),
        (["--set", "a=1", "b=x=y", "--set", "c=2"], "settings", {"a": "1", "b": "x=y", "c": "2"}),
        (["--link"], "link", "symlink"),
        (["--no_pp"], "preprocess", False),
        (["--no_pbar"], "show_progress", False),
        (["--val_best"], "validate", "best"),
    ],
)
def test_each_kind_of_flag_becomes_its_value(words, field, value):
    words = ["501", *words] if words == ["all"] else ["501", "-i", "a", *words]
    words = [*words, "-i", "a"] if "-i" not in words else words
    found = getattr(request_from(SampleRequest, parser_of(SampleRequest).parse_args(words)), field)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "0"], "0 is not at least 1"),
        (["--samples", "two"], "'two' is not a whole number"),
        (["--step_size", "1.5"], "1.5 is above 1"),
        (["--step_size", "nan"], "nan is not a finite number"),
        (["--set", "abc"], "'abc' is not name=value"),
        (["-pl", "huge"], "invalid choice: 'huge'"),
        (["--val", "--overwrite"], "not allowed with argument --val"),
    ],
)
def test_a_wrong_value_ends_with_status_2(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        read(*words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_required_flag_is_required(capsys):
    with pytest.raises(SystemExit):
        parser_of(SampleRequest).parse_args(["501"])
    assert "required: -i/--images" in capsys.readouterr().err


def test_the_python_call_takes_natural_values():
    """Numbers of data sets, lists, texts for paths, one for several."""
    asked = SampleRequest(dataset=501, images="a", spacing=[1, 2, 3], settings={"epochs": 5, "flip": True})
    assert (asked.dataset, asked.images, asked.spacing) == ("501", (Path("a"),), (1.0, 2.0, 3.0))
    assert asked.settings == {"epochs": "5", "flip": "true"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "samples: 0 is not at least 1"),
        ({"samples": 1.5}, "samples: 1.5 is not a whole number"),
        ({"samples": True}, "samples: True is not a whole number"),
        ({"preset": "huge"}, "preset: 'huge' is not one of plain, tiny"),
        ({"spacing": (1.0, 2.0)}, "spacing: 2 values, not 3"),
        ({"overwrite": True, "validate": "best"}, "overwrite and validate exclude each other"),
        ({"overwrite": None}, "overwrite: None is not True or False"),
    ],
)
def test_the_python_call_refuses_what_the_command_line_refuses(values, message):
    with pytest.raises(RequestError, match=message):
        SampleRequest(**{"dataset": "501", "images": ("a",)} | values)


def test_adding_an_option_is_one_field():
    """The flag, its help, its line on the reference page, its check and its value follow from the field."""

    @request
    class MoreRequest(SampleRequest):
        wait: float = option("-w", "--wait", help="seconds to wait", default=2.0, metavar="SECONDS", bounds=SHARE)

    parser = parser_of(MoreRequest)
    assert "-w SECONDS, --wait SECONDS" in parser.format_help()
    assert "seconds to wait (default: 2.0)" in " ".join(parser.format_help().split())
    assert "| `-w`, `--wait` `SECONDS` | seconds to wait (default: 2.0) |" in section(parser)
    assert request_from(MoreRequest, parser.parse_args(["501", "-i", "a", "-w", "0.5"])).wait == 0.5
    assert "wait" not in vars(parser_of(SampleRequest).parse_args(["501", "-i", "a"]))
    with pytest.raises(RequestError, match="wait"):
        MoreRequest(dataset="501", images=("a",), wait=3.0)


def test_a_contradictory_request_ends_with_status_2_and_a_failure_with_1(capsys):
    @command(SampleRequest)
    def main(asked, _folders):
        raise RequestError("this contradicts that") if asked.overwrite else GdmError("it failed")

    words = ["501", "-i", "a"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--overwrite"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("gdm_sample: this contradicts that\ngdm_sample --help lists")
    assert main(words) == 1
    assert capsys.readouterr().err == "error: it failed\n"


def test_a_command_gets_its_request_and_folders():
    got = []

    @command(SampleRequest)
    def main(asked, folders):
        got.extend((asked.dataset, folders.raw))

    assert main(["501", "-i", "a", "--raw", "there"]) == 0
    assert got == ["501", Path("there")]


def test_a_flag_that_is_repeated_keeps_all_of_its_values():
    parser = parser_of(PredictRequest)
    found = request_from(PredictRequest, parser.parse_args(["-i", "a.nii.gz", "-i", "b.nii.gz", "-o", "out"]))
    assert found.input == ("a.nii.gz", "b.nii.gz")
    again = request_from(PredictRequest, parser.parse_args(["-i", "c.nii.gz", "-o", "out", "--series", "1"]))
    assert (again.input, again.series) == (("c.nii.gz",), ("1",))
