"""Copies of prepared cases: whole or not trusted, made once for all processes of a machine, and gone in plain words."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from test_casestore import prepared_case

from gdmunet import turns
from gdmunet.claims import Claim
from gdmunet.errors import GdmError
from gdmunet.file_sources import LocalSource
from gdmunet.patience import set_wait_limit, wait_limit
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.mirrored_store import MirroredStore

NAMES = ("a", "b", "c")


class Counting(LocalSource):
    """A source that remembers what was copied, in a file that all processes share; the disk of a cluster is slow."""

    def copy(self, name, destination):
        with open(self.folder.parent / "copied.txt", "a") as log:
            log.write(f"{name}\n")
        time.sleep(0.05)
        super().copy(name, destination)


class Halting(LocalSource):
    """A source whose process is killed in the middle of the second case."""

    def copy(self, name, destination):
        if name == "b.b2nd":
            content = (self.folder / name).read_bytes()
            destination.write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        super().copy(name, destination)


@pytest.fixture
def original(tmp_path):
    store = CaseStore(tmp_path / "Dataset001_A", "plans", "3d_fullres")
    for seed, name in enumerate(NAMES):
        store.write(prepared_case(name, seed=seed))
    return store


def mirror(original, folder, source=LocalSource):
    return MirroredStore(original, source(original.folder), folder / "cases")


def stage_in_process(original, folder, source):
    mirror(original, folder, source).stage(NAMES, show_progress=False)


def same(first, second):
    for name in NAMES:
        one, other = first.open(name), second.open(name)
        assert one.properties == other.properties
        np.testing.assert_array_equal(one.condition[:], other.condition[:])
        np.testing.assert_array_equal(one.body_voxels, other.body_voxels)


def test_staged_cases_are_those_of_the_store_and_leave_nothing_else(original, tmp_path):
    store = mirror(original, tmp_path / "fast")
    store.stage(NAMES, show_progress=False)
    same(original, store)
    assert sorted(path.name for path in store.folder.iterdir()) == sorted(p.name for p in original.folder.iterdir())


def test_several_processes_copy_each_file_once(original, tmp_path):
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=stage_in_process, args=(original, tmp_path / "fast", Counting)) for _ in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]
    copied = (original.folder.parent / "copied.txt").read_text().split()
    assert sorted(copied) == sorted(f"{name}{end}" for name in NAMES for end in (".b2nd", "_mask.b2nd"))
    same(original, mirror(original, tmp_path / "fast"))


def test_a_copy_that_was_killed_leaves_no_half_case_and_the_next_goes_on(original, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=stage_in_process, args=(original, tmp_path / "fast", Halting)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    folder = tmp_path / "fast" / "cases"
    assert (folder / "a.b2nd").is_file()
    assert not (folder / "b.b2nd").exists()
    stage_in_process(original, tmp_path / "fast", Counting)
    copied = (original.folder.parent / "copied.txt").read_text().split()
    assert not [name for name in copied if name.startswith("a")], "what was whole is not copied again"
    same(original, mirror(original, tmp_path / "fast"))
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in original.folder.iterdir())


def test_a_damaged_copy_is_made_again_and_a_damaged_original_refused(original, tmp_path):
    stage_in_process(original, tmp_path / "fast", LocalSource)
    copy = tmp_path / "fast" / "cases" / "b.b2nd"
    whole = bytearray(copy.read_bytes())
    whole[len(whole) // 2] ^= 1
    copy.write_bytes(whole)
    stage_in_process(original, tmp_path / "fast", LocalSource)
    same(original, mirror(original, tmp_path / "fast"))
    (original.folder / "b.b2nd").write_bytes(whole)
    copy.unlink()
    with pytest.raises(GdmError, match="other bytes than were written") as caught:
        stage_in_process(original, tmp_path / "fast", LocalSource)
    assert caught.value.case == "b"
    assert not copy.exists()


def test_cases_that_were_prepared_anew_are_copied_anew(original, tmp_path):
    stage_in_process(original, tmp_path / "fast", LocalSource)
    original.write(prepared_case("c", seed=9))
    stage_in_process(original, tmp_path / "fast", LocalSource)
    same(original, mirror(original, tmp_path / "fast"))


def test_a_disk_without_space_is_refused_before_anything_is_copied(original, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(GdmError, match="no space for the cases") as caught:
        stage_in_process(original, tmp_path / "fast", LocalSource)
    assert "--stage" in caught.value.remedy
    assert not list((tmp_path / "fast").rglob("*.b2nd"))


def test_a_staged_folder_that_is_removed_is_named(original, tmp_path):
    store = mirror(original, tmp_path / "fast")
    store.stage(NAMES, show_progress=False)
    store.open("a")
    shutil.rmtree(store.folder)
    with pytest.raises(GdmError, match="gone from this machine's disk") as caught:
        store.open("b")
    assert (caught.value.case, caught.value.found) == ("b", "no folder")
    assert "--c" in caught.value.remedy


def test_waiting_for_a_process_that_copies_nothing_ends(original, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_PAUSE", 0.02)
    store, before = mirror(original, tmp_path / "fast"), wait_limit()
    set_wait_limit(0.2)
    try:
        with Claim.on_folder(store.folder, "copying cases"), pytest.raises(GdmError, match="another process"):
            store.stage(NAMES, show_progress=False)
    finally:
        set_wait_limit(before)


def test_who_waits_goes_on_when_the_other_has_ended(original, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_PAUSE", 0.02)
    store = mirror(original, tmp_path / "fast")
    waiting = threading.Thread(target=store.stage, args=(NAMES, False))
    with Claim.on_folder(store.folder, "copying cases"):
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
    waiting.join(30)
    same(original, store)


def test_without_staging_a_case_is_copied_when_it_is_opened(original, tmp_path):
    store = mirror(original, tmp_path / "fast", Counting)
    store.check(NAMES)
    assert not (original.folder.parent / "copied.txt").exists()
    store.open("b")
    assert (original.folder.parent / "copied.txt").read_text().split() == ["b.b2nd", "b_mask.b2nd"]


def test_a_missing_original_names_its_place(original, tmp_path):
    (original.folder / "b_mask.b2nd").unlink()
    with pytest.raises(GdmError, match="cannot be copied from its place") as caught:
        stage_in_process(original, tmp_path / "fast", LocalSource)
    assert Path(str(caught.value.file)).name == "b_mask.b2nd"
