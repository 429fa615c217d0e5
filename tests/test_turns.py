"""A claim in turn: who waits goes on when the other has ended, and waits while the other one shows that it works."""

import itertools
import threading
import time

import pytest

from gdmunet import turns
from gdmunet.claims import Claim, ClaimedError
from gdmunet.patience import set_wait_limit, wait_limit
from gdmunet.turns import in_turn


@pytest.fixture
def impatient(monkeypatch):
    """Waits that end after a quarter of a second."""
    monkeypatch.setattr(turns, "_PAUSE", 0.02)
    before = wait_limit()
    set_wait_limit(0.25)
    yield
    set_wait_limit(before)


def test_nobody_waits_for_a_claim_that_is_free(tmp_path):
    with in_turn(Claim(tmp_path / "claim.json", "work")) as waited:
        assert not waited
        assert (tmp_path / "claim.json").is_file()
    assert not (tmp_path / "claim.json").exists()


def test_who_waits_holds_the_claim_after_the_other_and_knows_that_it_waited(tmp_path):
    answers = []

    def second():
        with in_turn(Claim(tmp_path / "claim.json", "second")) as waited:
            answers.append(waited)

    thread = threading.Thread(target=second)
    with Claim(tmp_path / "claim.json", "first"):
        thread.start()
        time.sleep(0.3)
        assert answers == []
    thread.join(30)
    assert answers == [True]


@pytest.mark.usefixtures("impatient")
def test_a_wait_ends_where_the_other_shows_nothing_new(tmp_path):
    with (
        Claim(tmp_path / "claim.json", "first"),
        pytest.raises(ClaimedError, match="too long") as error,
        in_turn(Claim(tmp_path / "claim.json", "second", "too long")),
    ):
        pass
    assert "first" in error.value.found


@pytest.mark.usefixtures("impatient")
def test_a_wait_lasts_while_the_other_gets_on(tmp_path):
    """Three times the limit, in which every look shows another number."""
    number, waits = itertools.count(), []
    first = Claim(tmp_path / "claim.json", "first")

    def work():
        with first:
            held.set()
            time.sleep(0.75)

    held = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    held.wait(30)
    with in_turn(Claim(tmp_path / "claim.json", "second"), lambda: float(next(number))) as waited:
        waits.append(waited)
    thread.join(30)
    assert waits == [True]
