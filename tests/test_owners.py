"""Temporary names carry their process: what the dead left goes, what the living write stays."""

import os
import subprocess
import sys
import time

import pytest

from gdmunet.owners import Owner, sweep, temporary_beside

LEAVE = (
    "import sys; from pathlib import Path; from gdmunet.owners import temporary_beside as t; p = t(Path(sys.argv[1]));"
)


def left_by_a_dead_process(destination, make="p.write_text('half')"):
    subprocess.run([sys.executable, "-c", f"{LEAVE} {make}", str(destination)], check=True)


def test_what_the_dead_left_goes_and_what_the_living_write_stays(tmp_path):
    living = subprocess.Popen(
        [sys.executable, "-c", f"{LEAVE} p.write_text('half'); print(1, flush=True); input()", str(tmp_path / "b.txt")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    living.stdout.readline()
    own = temporary_beside(tmp_path / "c.txt")
    own.write_text("half")
    left_by_a_dead_process(tmp_path / "a.txt")
    left_by_a_dead_process(tmp_path / "d", "p.mkdir(); (p / 'x').write_text('half')")
    removed = sweep(tmp_path)
    assert sorted(path.name.rpartition("-")[2] for path in removed) == ["a.txt", "d"]
    assert sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir()) == ["b.txt", "c.txt"]
    living.communicate(b"\n")
    assert len(sweep(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == [own]


@pytest.mark.parametrize("name", [".tmp-other.host-12-345-0123abcd-0123abcd-a.txt", ".tmp-12345678-a.txt"])
def test_what_another_machine_or_version_left_goes_after_a_day(tmp_path, name):
    (tmp_path / name).write_text("half")
    assert sweep(tmp_path) == []
    os.utime(tmp_path / name, (time.time() - 100_000,) * 2)
    assert len(sweep(tmp_path)) == 1


@pytest.mark.parametrize(
    "name", ["x" * 255, "ü" * 120 + ".nii.gz", b"\xff\xfe.nii.gz".decode("utf-8", "surrogateescape")]
)
def test_every_name_of_a_file_has_a_temporary_one(tmp_path, name):
    temporary = temporary_beside(tmp_path / name)
    temporary.write_text("x")
    assert temporary.name.endswith(name[-7:])


def test_a_process_knows_itself_and_its_end():
    assert Owner.present().verdict() == "alive"
    child = subprocess.Popen(
        [sys.executable, "-c", "from gdmunet.owners import Owner as O; print(repr(O.present()), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    owner = eval(child.stdout.readline())
    assert owner.verdict() == "alive"
    child.kill()
    while owner.verdict() == "alive":
        time.sleep(0.01)  # a process that nobody has waited for yet holds nothing
    child.communicate()
    assert owner.verdict() == "dead"
    assert Owner("other", "boot", 1, 1).verdict() == "elsewhere"
