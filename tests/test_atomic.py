"""A file is the old one or the whole new one."""

import errno
import os
from pathlib import Path

import pytest

from gdmunet.atomic import atomic_path, make_folder, write_text
from gdmunet.errors import GdmError


def test_a_new_file_appears_with_its_folders(tmp_path):
    write_text(tmp_path / "a/b/c.txt", "new ü")
    assert (tmp_path / "a/b/c.txt").read_text(encoding="utf-8") == "new ü"
    assert list((tmp_path / "a/b").iterdir()) == [tmp_path / "a/b/c.txt"]


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with atomic_path(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"x")


def write_half(path, error):
    """Write half a file, then fail."""
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error):
        write_half(tmp_path / "a.txt", error())
    assert (tmp_path / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_a_full_disk_is_an_error_with_a_remedy(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(GdmError, match="No space left") as caught:
        write_half(tmp_path / "a.txt", OSError(errno.ENOSPC, "No space left on device"))
    assert "free disk space" in str(caught.value)
    assert str(tmp_path / "a.txt") in str(caught.value)
    assert (tmp_path / "a.txt").read_text() == "old"


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GdmError, match="cannot make the folder") as caught:
        write_text(tmp_path / "file/a.txt", "x")
    assert caught.value.file == tmp_path / "file"
    assert "there is a file of this name" in caught.value.remedy
    assert "disk space" not in caught.value.remedy


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "read-only"),
        (errno.ENOTDIR, "a part of this path is a file"),
    ],
)
def test_the_remedy_follows_the_reason(tmp_path, monkeypatch, reason, remedy):
    def refuse(_self, **_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(GdmError, match=os.strerror(reason)) as caught:
        make_folder(tmp_path / "new")
    assert remedy in caught.value.remedy
    assert ("disk space" in caught.value.remedy) == (reason == errno.ENOSPC)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux alone has /proc")
def test_a_folder_in_proc_is_not_a_matter_of_disk_space():
    with pytest.raises(GdmError, match="cannot make the folder") as caught:
        write_text(Path("/proc/x/a.txt"), "x")
    assert "choose another folder" in caught.value.remedy
    assert "disk space" not in caught.value.remedy
