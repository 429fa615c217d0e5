"""The strict command line, and how commands end."""

import errno
import os
from pathlib import Path

import pytest

from gdmunet.cli.arguments import CommandParser, folders_from, run_command
from gdmunet.errors import GdmError
from gdmunet.version import __version__


@pytest.fixture
def parser():
    command = CommandParser("gdm_x", "Tests.", folders=("raw", "preprocessed", "results"))
    command.add_argument("-d", "--dataset", type=int)
    command.add_argument("-device", "--device")
    command.add_argument("-step_size", "--step_size", type=float, default=0.5, help="a share")
    command.add_argument("-i", nargs="+")
    command.common.add_argument("--no_pbar", action="store_true")
    command.add_version()
    return command


@pytest.mark.parametrize("flag", ["-step_size", "-step-size", "--step_size", "--step-size"])
def test_hyphens_and_underscores_are_one_character_in_a_flag(parser, flag):
    assert parser.parse_args([flag, "0.25"]).step_size == 0.25
    assert parser.parse_args([f"{flag}=0.25"]).step_size == 0.25


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-devise", "cuda"], "did you mean -device?"),
        (["--step_sise", "1"], "did you mean --step_size?"),
        (["--dataset_id", "1"], "did you mean --dataset?"),
        (["--no_progress_bar"], "did you mean --no_pbar?"),
        (["--step"], "unknown flag --step, did you mean --step_size?"),
        (["-d501"], "unknown flag -d501"),
    ],
)
def test_an_unknown_flag_ends_with_status_2_and_the_nearest_one(parser, capsys, words, hint):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(words)
    assert end.value.code == 2
    assert hint in capsys.readouterr().err


def test_negative_numbers_are_values(parser):
    arguments = parser.parse_args(["-d", "-3", "-i", "-1", "-2.5"])
    assert (arguments.dataset, arguments.i) == (-3, ["-1", "-2.5"])


def test_version_and_help(parser, capsys):
    for flag, text in (("--version", __version__), ("--help", "a share (default: 0.5)")):
        with pytest.raises(SystemExit) as end:
            parser.parse_args([flag])
        assert end.value.code == 0
        assert text in capsys.readouterr().out


def test_folders_come_from_the_flag_then_the_environment_then_the_working_folder(parser, monkeypatch):
    for name in ("GDM_RAW", "GDM_PREPROCESSED", "GDM_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    assert folders_from(parser.parse_args([])).raw == Path("gdm_raw")
    assert folders_from(parser.parse_args([])).preprocessed == Path("gdm_preprocessed")
    monkeypatch.setenv("GDM_RAW", "/from/environment")
    monkeypatch.setenv("GDM_RESULTS", "/results")
    found = folders_from(parser.parse_args(["--raw", "/from/flag"]))
    assert (found.raw, found.results) == (Path("/from/flag"), Path("/results"))
    assert folders_from(parser.parse_args([])).raw == Path("/from/environment")


def test_a_command_prints_a_user_error_without_a_traceback(capsys):
    @run_command
    def main(_argv):
        raise GdmError("it is wrong", case="c1", remedy="mend it")

    assert main([]) == 1
    text = capsys.readouterr().err
    assert text == "error: it is wrong\n  case: c1\n  remedy: mend it\n"


def test_a_full_disk_is_the_users_and_a_missing_file_our_mistake(capsys):
    @run_command
    def main(argv):
        raise OSError(int(argv[0]), os.strerror(int(argv[0])), "log.txt")

    assert main([str(errno.ENOSPC)]) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: cannot write: No space left")
    assert "file: log.txt" in text
    assert "free disk" in text
    with pytest.raises(FileNotFoundError):
        main([str(errno.ENOENT)])


def test_interruption_is_one_line_and_status_130(capsys):
    @run_command
    def main(_argv):
        raise KeyboardInterrupt

    assert main([]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_our_own_mistakes_keep_their_traceback():
    @run_command
    def main(_argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main([])
