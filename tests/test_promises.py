"""At its end a command counts what it wrote."""

import shutil

import pytest

from gdmunet import promises
from gdmunet.atomic import atomic_folder, move, remove, scratch_folder, write_text
from gdmunet.cli.flags import command
from gdmunet.errors import GdmError
from gdmunet.promises import check_promised, promises_kept
from gdmunet.workflows.requests.planning import ExtractFingerprintRequest


def test_files_that_are_gone_are_named(tmp_path):
    files = [tmp_path / f"{name}.nii.gz" for name in "abc"]
    for file in files:
        file.write_bytes(b"1")
    check_promised(files)
    files[1].unlink()
    with pytest.raises(GdmError, match="1 of 3 files") as caught:
        check_promised(files)
    assert caught.value.found == "missing: b.nii.gz"
    assert caught.value.remedy


@promises_kept()
def outside_hand(folder, *names):
    """Write files of a command whose folder somebody else removes."""
    for name in names:
        write_text(folder / name, name)
    shutil.rmtree(folder)


@promises_kept()
def own_hand(folder):
    """Write, move and remove files, as a command does; gives what is still promised."""
    write_text(folder / "old" / "a.txt", "a")
    move(folder / "old", folder / "new")
    write_text(folder / "new" / "b.txt", "b")
    remove(folder / "new" / "b.txt")
    with scratch_folder(folder / "x") as scratch:
        write_text(scratch / "c.txt", "c")
    with atomic_folder(folder / "whole") as whole:
        write_text(whole / "d.txt", "d")
    return list(promises._RECORDS[-1])


def test_what_the_writer_wrote_is_counted_when_all_work_is_done(tmp_path):
    with pytest.raises(GdmError, match="2 of 2 files") as caught:
        outside_hand(tmp_path / "out", "a.txt", "b.txt")
    assert caught.value.found == "missing: a.txt, b.txt"
    assert not promises._RECORDS


def test_what_the_command_moves_and_removes_itself_is_not_missed(tmp_path):
    assert own_hand(tmp_path) == [tmp_path / "new" / "a.txt", tmp_path / "whole" / "d.txt"]


def test_a_command_around_a_command_counts_its_files_as_well(tmp_path):
    def outer():
        with promises_kept():
            own_hand(tmp_path)
            shutil.rmtree(tmp_path / "new")

    with pytest.raises(GdmError, match="1 of 2 files"):
        outer()


def test_a_command_whose_folder_is_removed_after_its_last_file_ends_with_1(tmp_path, capsys):
    """The count comes after everything else, also after the claim on the folder is released."""
    entry = command(ExtractFingerprintRequest)(
        lambda _request, _folders: outside_hand.__wrapped__(tmp_path / "out", "a.json")
    )
    assert entry(["-d", "1"]) == 1
    assert "1 of 1 file" in capsys.readouterr().err
