"""The border for bytes that others wrote: read and parsed with limits; every failure is an error that names the file.

What passes is plain JSON values; `gdmunet.serialization` makes typed values of them, which check their own ranges.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gdmunet.errors import GdmError
from gdmunet.plain_text import one_line

# A fingerprint or a summary of ten thousand cases takes a tenth of this.
MOST_BYTES = 256 << 20
# Each takes up to a hundred bytes of memory.
MOST_VALUES = 4_000_000
MOST_DEPTH = 64
_PIECE = 1 << 20
_MOST_DIGITS = 19  # of a whole number: what 64 bits hold
_WHOLE = 1 << 63


@contextlib.contextmanager
def reading(
    problem: str,
    file: str | Path | None,
    *,
    case: str | None = None,
    expected: object = None,
    remedy: str | None = None,
    private: bool = False,
) -> Iterator[None]:
    """Around all that reads foreign bytes: a failure of any kind becomes an error that names the file.

    Libraries raise what they like for content that they do not know (RecursionError, OverflowError, UnicodeDecodeError,
    struct.error, KeyError and so on): no list of them is complete, so there is none.

    Parameters
    ----------
    private
        Whether an exception's text may hold what stands in the file (a patient's name): its kind alone is told then.

    Raises
    ------
    GdmError
        The body failed; an error of gdmunet is located and goes on.
    """
    try:
        yield
    except GdmError as error:
        error.located(case=case, file=file, remedy=remedy)
        raise
    except Exception as error:
        found = type(error).__name__ if private else reason(error)
        cause = None if private else error
        raise GdmError(problem, case=case, file=file, found=found, expected=expected, remedy=remedy) from cause


def reason(error: BaseException) -> str:
    """An exception in one line, for the line `found` of an error: its text, or its kind if it has none."""
    first = next(iter(str(error).splitlines()), "")
    tells = bool(first) and isinstance(error, ValueError | OSError | RuntimeError)
    return one_line(first if tells else f"{type(error).__name__} {first}".strip(), 300)


def read_bounded(file: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file that is a regular one and not larger than `most`.

    Raises
    ------
    GdmError
        Missing, a folder, a pipe or a device (which might never end), too large, or the system refuses.
    """
    file = Path(file)
    with reading(f"{file.name} cannot be read", file, remedy="check the file and its permissions"):
        if not file.exists():
            raise GdmError(f"{file.name} is missing", file=file)
        if not file.is_file():
            raise GdmError(f"{file.name} is not a file", file=file, expected="a file", remedy="check the path")
        with open(file, "rb") as stream:
            # A buffer of the whole limit would be taken from the system for every small file.
            content = stream.read(min(most, os.fstat(stream.fileno()).st_size) + 1)
    if len(content) > most:
        raise GdmError(
            f"{file.name} is larger than such a file can be",
            file=file,
            found=f"more than {most / 1e6:.0f} MB",
            expected=f"{most / 1e6:.0f} MB at most",
            remedy="make the file anew",
        )
    return content


def checksum(content: bytes, before: int = 0) -> int:
    """CRC-32 of bytes; `before`: that of the bytes before them. It tells a flipped bit, not a forged file."""
    return zlib.crc32(content, before)


def file_checksum(file: Path) -> int:
    """`checksum` of a file of any size, read in pieces."""
    total = 0
    with open(file, "rb") as stream:
        while piece := stream.read(_PIECE):
            total = checksum(piece, total)
    return total


def check_zip(file: Path) -> None:
    """Compare every member of a zip with its checksum, which torch does not ask when it loads one.

    Raises
    ------
    ValueError
        Names a member whose bytes have changed. Another kind of file is left to its reader.
    """
    import zipfile  # which the commands' help need not pay for

    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{one_line(damaged, 100)} has another checksum than when it was written")


def parse_json(content: bytes | str) -> Any:
    """Plain values of a JSON text.

    Refused are, beside what is not JSON: numbers that are not finite (also ``1e400``) or beyond 64 bits, a key that is
    given twice, more than `MOST_DEPTH` levels or `MOST_VALUES` values, and text that cannot be written as UTF-8 or as a
    path (half a surrogate pair, NUL).

    Raises
    ------
    ValueError
        Says what is wrong.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    if sum(map(text.count, "[{,")) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique_keys,
        )
    except RecursionError as error:
        raise ValueError(f"more than {MOST_DEPTH} levels") from error
    _check_depth(value)
    if "\\u" in text:  # nothing else can bring them: JSON refuses control characters, and UTF-8 surrogates
        _check_strings(value)
    return value


def parse_json_object(content: bytes | str, problem: str) -> dict[str, Any]:
    """The same where the text must hold an object.

    Raises
    ------
    GdmError
        `problem`, with what was found.
    """
    try:
        value = parse_json(content)
    except ValueError as error:
        raise GdmError(problem, found=reason(error), expected="a JSON object") from error
    if not isinstance(value, dict):
        raise GdmError(problem, found=one_line(json.dumps(value), 80), expected="a JSON object")
    return value


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{one_line(text, 30)} is beyond the range of numbers")
    return value


def _whole(text: str) -> int:
    value = int(text) if len(text) <= _MOST_DIGITS + 1 else _WHOLE
    if not -_WHOLE <= value < _WHOLE:
        raise ValueError(f"{one_line(text, 30)} is beyond the range of whole numbers")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {one_line(twice, 80)} is given twice")
    return content


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [item for outer in level for item in _items(outer) if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(f"more than {MOST_DEPTH} levels")


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_strings(value: Any) -> None:
    level = [value]
    while level:
        for item in level:
            for text in (item, *(item if isinstance(item, dict) else ())):
                if isinstance(text, str) and any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
                    raise ValueError(f"the text {one_line(text, 80)} cannot be written")
        level = [inner for outer in level for inner in _items(outer)]
