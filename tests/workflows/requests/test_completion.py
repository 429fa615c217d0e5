"""The command of a remedy repeats the folders that were typed as flags."""

from gdmunet.errors import CommandLine, GdmError
from gdmunet.paths import find_folders
from gdmunet.workflows.requests.completion import complete, with_folders

PREPROCESS = CommandLine("gdm_preprocess", "-d", 5)


def test_folders_that_were_typed_are_repeated_once_where_the_command_uses_them():
    folders = find_folders(raw="my raw", results="results")
    command = with_folders(PREPROCESS, folders)
    assert str(command) == "gdm_preprocess -d 5 --raw 'my raw'"
    assert with_folders(command, folders) == command


def test_folders_of_the_environment_are_left_out(monkeypatch):
    monkeypatch.setenv("GDM_RAW", "elsewhere")
    assert with_folders(PREPROCESS, find_folders()) == PREPROCESS


def test_the_command_of_an_error_is_completed():
    error = GdmError("bad", command=CommandLine("gdm_train", 5, "2d"))
    complete(error, find_folders(preprocessed="p"))
    assert str(error) == "bad\n  remedy: run gdm_train 5 2d --preprocessed p"
    complete(GdmError("bad", remedy="mend it"), find_folders(preprocessed="p"))
