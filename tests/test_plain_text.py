"""Text of others on a terminal: nothing that moves a cursor, turns the reading order or never ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmunet.errors import GdmError
from gdmunet.plain_text import MOST_LETTERS, one_line, printable
from gdmunet.progress import say


@pytest.mark.parametrize(
    "letter", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\ud800", "\x7f"]
)
def test_a_letter_that_a_terminal_obeys_is_written_as_its_number(letter, capsys):
    error = GdmError("the trainer is unknown", found=f"a{letter}b")
    assert letter not in str(error)
    say(f"model a{letter}b")
    assert letter not in capsys.readouterr().out


@given(st.text())
def test_what_is_printed_can_be_written_and_is_not_changed_twice(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert printable(shown) == shown
    assert "\n" not in one_line(text)


def test_letters_of_all_languages_stay():
    text = "Größe 5 µm, 头部, \u00a0\u05de\u05d5\u05d7, ²\ttab\nline"
    assert printable(text) == text


def test_a_long_line_is_cut_and_says_so():
    shown = printable("x" * 100_000 + "\ny")
    assert shown == "x" * MOST_LETTERS + f" ... ({100_000 - MOST_LETTERS} more letters)\ny"
