"""Text of unknown origin, made safe to print: nothing in it moves a cursor or turns the reading order, and it ends."""

from __future__ import annotations

import unicodedata

# A line of an error or of a listing: the longest command that gdmunet prints has a few hundred letters.
MOST_LETTERS = 1000
# A little more is not cut: what was cut once stays as it is.
_CUT = 40
# Control characters, formats (turns of the reading order, zero width), lone surrogates, private and unassigned ones,
# and the line ends that only Unicode knows.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def printable(text: str, most: int = MOST_LETTERS) -> str:
    """The text with every character that a terminal might obey written as its number, and each line cut.

    Line ends and tabs stay: whoever puts foreign text into one line uses `one_line`.
    """
    return "\n".join(_safe_line(line, most) for line in text.split("\n"))


def one_line(text: str, most: int = MOST_LETTERS) -> str:
    """The same for a text that is part of a line: line ends are written as ``\\n`` as well."""
    return _safe_line(text, most).replace("\n", "\\n")


def _safe_line(line: str, most: int) -> str:
    if len(line) > most + _CUT:
        line = f"{line[:most]} ... ({len(line) - most} more letters)"
    if line.isprintable():
        return line
    return "".join(letter if letter in "\t\n" or not _obeyed(letter) else _number(letter) for letter in line)


def _obeyed(letter: str) -> bool:
    return unicodedata.category(letter) in _UNPRINTABLE


def _number(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
