"""One writer: of many that begin at once one holds the claim, also where an old claim has to be taken over."""

import dataclasses
import os
import subprocess
import sys
import time

import pytest

from gdmunet.claims import STALE_SECONDS, Claim, ClaimSpec, Witness, check_unclaimed
from gdmunet.errors import GdmError
from gdmunet.owners import Owner
from gdmunet.parts import WHOLE, PartOptions
from gdmunet.serialization import load_json, save_json

ELSEWHERE = Owner("another-host", "another boot", 7, 12345)
RUSH = """
import sys, time
from pathlib import Path
from gdmunet.claims import Claim
from gdmunet.errors import GdmError
start = Path(sys.argv[1]).with_name("start")
while not start.exists():
    pass
try:
    with Claim(Path(sys.argv[1]), "training"):
        Path(sys.argv[2]).write_text("held")
        time.sleep(1.0)
except GdmError as error:
    Path(sys.argv[2]).write_text("refused" if "training" in str(error) else str(error))
"""


def rush(tmp_path, claim, count=6):
    """What `count` processes that begin at one moment come to."""
    answers = [tmp_path / f"answer_{number}" for number in range(count)]
    processes = [subprocess.Popen([sys.executable, "-c", RUSH, str(claim), str(answer)]) for answer in answers]
    time.sleep(0.5)
    (tmp_path / "start").touch()
    for process in processes:
        assert process.wait(60) == 0
    return sorted(answer.read_text() for answer in answers)


def old(claim, spec, age):
    """Let a claim lie there whose last sign of life was `age` seconds ago."""
    save_json(spec, claim)
    os.utime(claim, (time.time() - age,) * 2)


@pytest.mark.parametrize("left", ["nothing", "a dead process", "another host", "a torn file"])
def test_one_of_many_gets_it(tmp_path, left):
    claim = tmp_path / "claim.json"
    if left == "a dead process":
        save_json(ClaimSpec(dataclasses.replace(Owner.present(), started=1), "a" * 32, "training"), claim)
    if left == "another host":
        old(claim, ClaimSpec(ELSEWHERE, "a" * 32, "training"), STALE_SECONDS + 60)
    if left == "a torn file":
        claim.write_text('{"owner": {"ho')
        os.utime(claim, (time.time() - STALE_SECONDS - 60,) * 2)
    assert rush(tmp_path, claim) == ["held", *["refused"] * 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"answer_{k}" for k in range(6)), "start"]


def test_a_claim_of_another_host_is_live_for_ten_minutes(tmp_path, capsys):
    claim, spec = tmp_path / "claim.json", ClaimSpec(ELSEWHERE, "a" * 32, "training")
    old(claim, spec, STALE_SECONDS - 60)
    with (
        pytest.raises(GdmError, match="process 7 on another-host: training, last sign of life 5") as error,
        Claim(claim, "mine"),
    ):
        raise AssertionError
    assert "taken over in 1 minutes" in str(error.value)
    with pytest.raises(GdmError):
        check_unclaimed(claim, "in use")
    assert load_json(ClaimSpec, claim) == spec
    old(claim, spec, STALE_SECONDS + 60)
    check_unclaimed(claim, "in use")
    with Claim(claim, "mine") as mine:
        assert load_json(ClaimSpec, claim) == mine.spec
    assert "is taken over; it was of process 7 on another-host" in capsys.readouterr().out
    assert not claim.exists()


@pytest.mark.parametrize("content", ["3", "", "[" * 100_000, "\xff"])
def test_a_claim_that_cannot_be_read_is_live_while_it_is_young(tmp_path, content):
    claim = tmp_path / "claim.json"
    claim.write_text(content, encoding="latin-1")
    with pytest.raises(GdmError, match="a claim that cannot be read"), Claim(claim, "mine"):
        raise AssertionError


def test_who_has_lost_its_claim_writes_no_more_and_leaves_the_new_one(tmp_path):
    claim = tmp_path / "claim.json"
    other = ClaimSpec(ELSEWHERE, "b" * 32, "training")
    with Claim(claim, "mine") as mine:
        witness = Witness.of(claim)
        mine.check()
        witness.check()
        save_json(other, claim)
        for one in (mine, witness):
            with pytest.raises(GdmError, match="no longer holds its claim"):
                one.check()
    assert load_json(ClaimSpec, claim) == other
    claim.unlink()
    with pytest.raises(GdmError, match="no longer holds its claim") as error:
        witness.check()
    assert "gone" in error.value.found
    Witness(claim, None).check()  # nobody held it


def test_parts_share_a_folder_and_a_whole_run_does_not(tmp_path):
    with Claim.on_folder(tmp_path, "prediction", PartOptions(2, 0)), Claim.on_folder(tmp_path, "x", PartOptions(2, 1)):
        for part in (PartOptions(2, 1), WHOLE, PartOptions(3, 2)):
            with (
                pytest.raises(GdmError, match="another process writes into this folder"),
                Claim.on_folder(tmp_path, "prediction", part),
            ):
                raise AssertionError
    part = Claim.on_folder(tmp_path, "prediction", PartOptions(2))
    with Claim.on_folder(tmp_path, "prediction"), pytest.raises(GdmError), part:
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_hard_links_is_claimed_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    with Claim(tmp_path / "claim.json", "one"), pytest.raises(GdmError), Claim(tmp_path / "claim.json", "two"):
        raise AssertionError


def test_a_claim_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr("gdmunet.claims.HEARTBEAT_SECONDS", 0.05)
    with Claim(tmp_path / "claim.json", "one") as claim:
        os.utime(claim.file, (1, 1))
        limit = time.monotonic() + 20
        while claim.file.stat().st_mtime < 2:
            assert time.monotonic() < limit
            time.sleep(0.02)
