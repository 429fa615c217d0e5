"""Words in braces, expanded as bash expands them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")


def command_lines(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Every command line that words with braces make, the last word changing fastest."""
    return list(itertools.product(*map(expand, words)))


def expand(word: str) -> list[str]:
    """The words that one makes, in order: ``a{b,c}`` is ``ab`` and ``ac``, ``{0..2}`` is ``0``, ``1`` and ``2``.

    Braces may be nested; those without a comma or a range, and those after a dollar sign, stay as they are. Ranges are
    of whole numbers.
    """
    for start, end in _pairs(word):
        inside = word[start + 1 : end]
        members = _split(inside)
        if len(members) > 1:
            choices = [made for member in members for made in expand(member)]
        elif (found := _RANGE.fullmatch(inside)) is not None:
            choices = _range(*found.groups())
        else:
            continue
        head, tails = word[:start], expand(word[end + 1 :])
        # What stood before had nothing to expand.
        return [f"{head}{choice}{tail}" for choice in choices for tail in tails]
    return [word]


def _pairs(word: str) -> Iterator[tuple[int, int]]:
    """Each opening brace with the one that closes it, from left to right."""
    for start, letter in enumerate(word):
        if letter != "{" or word[start - 1 : start] == "$":
            continue
        depth = 0
        for end in range(start, len(word)):
            depth += {"{": 1, "}": -1}.get(word[end], 0)
            if not depth:
                yield start, end
                break


def _split(inside: str) -> list[str]:
    """Parts between the commas that are not in inner braces."""
    parts, depth = [""], 0
    for letter in inside:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _range(first: str, last: str, step: str | None) -> list[str]:
    low, high = int(first), int(last)
    stride = (abs(int(step or 1)) or 1) * (1 if high >= low else -1)
    padded = any(re.match(r"-?0\d", end) for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [f"{number:0{width}d}" for number in range(low, high + (1 if stride > 0 else -1), stride)]
