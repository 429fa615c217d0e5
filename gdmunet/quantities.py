"""Counts and sizes of memory in words, each in one way everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sized

# Nouns whose plural has no s.
_UNCHANGED = ("series",)


def counted(number: int | Sized, noun: str) -> str:
    """``1 case``, ``2 cases``.

    Parameters
    ----------
    number
        The count, or what is counted.
    noun
        Noun in the singular, with its adjectives, such as ``training case``.
    """
    count = number if isinstance(number, int) else len(number)
    if count == 1 or noun.endswith(_UNCHANGED):
        return f"{count} {noun}"
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{count} {noun}es"
    return f"{count} {noun}s"


def memory_size(byte_count: float) -> str:
    """``350 MB`` below 1 GB, ``7.52 GB`` from there on; GB of 1e9 bytes, MB of 1e6, three digits."""
    megabytes = byte_count / 1e6
    if round(megabytes) < 1000:
        return f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.2g} MB"
    return f"{byte_count / 1e9:.3g} GB"


def duration(seconds: float) -> str:
    """``0.35 s``, ``40 s``, ``12 minutes``, ``5.5 hours``, ``3 days``; two digits or a whole number."""
    for unit, size in (("s", 1.0), ("minutes", 60.0), ("hours", 3600.0), ("days", 86400.0)):
        largest = {"s": 90.0, "minutes": 5400.0, "hours": 172800.0, "days": float("inf")}[unit]
        if seconds < largest:
            number = seconds / size
            return f"{number:.2g} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    raise ValueError(f"{seconds} seconds are not a time")


def joined(*texts: str) -> str:
    """The texts that are not empty, with commas between."""
    return ", ".join(text for text in texts if text)


def listed(names: Iterable[str], most: int = 10) -> str:
    """``a, b, c and 4 more``."""
    words = list(names)
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
