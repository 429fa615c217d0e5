"""Checks that a stored value makes of itself when it is built: a file can ask for anything.

The limits are far beyond what planning chooses. They are there so that no number of a file allocates a terabyte, loops
for hours, or means nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sized

from gdmunet.errors import GdmError
from gdmunet.plain_text import one_line

# The name of a file or of a folder, and never a way to another one.
_FILE_NAME = re.compile(r"[^/\\\x00-\x1f]{1,200}")


def require(condition: bool, problem: str, found: object, expected: str) -> None:
    """Refuse a value that its condition does not hold for.

    Raises
    ------
    GdmError
        The condition does not hold.
    """
    if not condition:
        raise GdmError(problem, found=one_line(str(found), 200), expected=expected)


def within(what: str, values: float | Iterable[float] | None, low: float, high: float) -> None:
    """Every number lies in a range, both ends included, and is finite; None is fine.

    Raises
    ------
    GdmError
        One does not.
    """
    numbers = (values,) if isinstance(values, int | float) else () if values is None else tuple(values)
    fits = all(math.isfinite(number) and low <= number <= high for number in numbers)
    require(fits, f"{what} is out of its range", values, f"{low:.10g} to {high:.10g}")


def counted_as(what: str, values: Sized, count: int) -> None:
    """There are as many values as something else has.

    Raises
    ------
    GdmError
        There are more, or fewer.
    """
    require(len(values) == count, f"{what}: wrong number of values", values, f"{count} values")


def named(what: str, name: str) -> None:
    """A name that becomes that of a file or folder stays inside its folder.

    Raises
    ------
    GdmError
        It is empty, too long, a path, or hidden.
    """
    plain = _FILE_NAME.fullmatch(name) is not None and not name.startswith(".")
    require(plain, f"{what} is not a name of a file", repr(name), "a name without / and \\, of 1 to 200 letters")
