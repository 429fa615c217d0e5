"""The kinds of value that a request's field may have, by its annotation: reading from a text, and checks."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gdmunet.paths import is_url


class Place(str):
    """A file or folder, or its URL, as it was given: as a `Path` a URL would lose a slash."""


@dataclass(frozen=True)
class Bounds:
    """The range of a number; None: open on that side."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None

    def check(self, value: float) -> None:
        """Refuse a number outside, and a value that is not a finite number.

        Raises
        ------
        ValueError
            A bound is broken; says which.
        """
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        if self.at_least is not None and value < self.at_least:
            raise ValueError(f"{value} is not at least {self.at_least:g}")
        if self.above is not None and value <= self.above:
            raise ValueError(f"{value} is not above {self.above:g}")
        if self.at_most is not None and value > self.at_most:
            raise ValueError(f"{value} is above {self.at_most:g}")


COUNT = Bounds(at_least=1)
NATURAL = Bounds(at_least=0)
POSITIVE = Bounds(above=0)
SHARE = Bounds(above=0, at_most=1)
PART = Bounds(at_least=0, at_most=1)

_SCALARS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    Place: "a path or URL",
}


@dataclass(frozen=True)
class ValueKind:
    """The value of a field, as its annotation says it.

    Attributes
    ----------
    scalar
        Type of the value or of each of its members: str, int, float, Path, Place or bool.
    count
        None: one value; ``"+"``: a tuple of one or more; a number: a tuple of that length; ``"map"``: texts by name.
    choices
        The members of a ``Literal``; None: any value.
    optional
        Whether None is allowed.
    """

    scalar: type
    count: int | Literal["+", "map"] | None = None
    choices: tuple[Any, ...] | None = None
    optional: bool = False

    @classmethod
    def of(cls, annotation: Any) -> ValueKind:
        """The kind of an annotation such as ``int | None``, ``tuple[Path, ...]`` or ``Literal["a", "b"]``."""
        optional = False
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            members = [member for member in typing.get_args(annotation) if member is not type(None)]
            if len(members) != 1:
                raise TypeError(f"a flag has one kind of value: {annotation}")
            optional, annotation = True, members[0]
        count: int | Literal["+", "map"] | None = None
        if typing.get_origin(annotation) is dict:
            return cls(str, "map", None, optional)
        if typing.get_origin(annotation) is tuple:
            inner = typing.get_args(annotation)
            count = "+" if inner[-1] is Ellipsis else len(inner)
            annotation = inner[0]
        if typing.get_origin(annotation) is Literal:
            choices = typing.get_args(annotation)
            return cls(type(choices[0]), count, choices, optional)
        if annotation is not bool and annotation not in _SCALARS:
            raise TypeError(f"a flag cannot hold {annotation}")
        return cls(annotation, count, None, optional)

    def read(self, text: str) -> Any:
        """One value from the text of a command line.

        Raises
        ------
        ValueError
            The text does not fit; says why.
        """
        if self.count == "map":
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise ValueError(f"{text!r} is not name=value")
            return name, value
        if self.scalar is Path:
            return _path(text)
        try:
            return self.scalar(text)
        except ValueError:
            raise ValueError(f"{text!r} is not {_SCALARS[self.scalar]}") from None

    def fit(self, value: Any, check: Callable[[Any], None]) -> Any:
        """A value given in Python as the field holds it: a list becomes a tuple, a text a path, a number a text.

        Raises
        ------
        ValueError
            The value is of another kind, or `check` refuses it.
        """
        if value is None and self.optional:
            return None
        if self.count is None:
            return self._fit_one(value, check)
        if self.count == "map":
            return {str(name): _setting_text(setting) for name, setting in dict(value).items()}
        if isinstance(value, str | Path | int):  # one is meant as a tuple of one
            value = (value,)
        members = tuple(self._fit_one(member, check) for member in typing.cast(Sequence[Any], value))
        if isinstance(self.count, int) and len(members) != self.count:
            raise ValueError(f"{len(members)} values, not {self.count}")
        return members

    def _fit_one(self, value: Any, check: Callable[[Any], None]) -> Any:
        if self.scalar is Path and isinstance(value, str):
            value = _path(value)
        elif self.scalar is Place and isinstance(value, str | Path):
            value = Place(value)
        elif self.scalar is str and type(value) is int:  # data sets and folds are often numbers
            value = str(value)
        elif self.scalar is float and type(value) is int:
            value = float(value)
        if not isinstance(value, self.scalar) or (isinstance(value, bool) and self.scalar is not bool):
            raise ValueError(f"{value!r} is not {_SCALARS.get(self.scalar, 'True or False')}")
        check(value)
        return value


def _setting_text(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _path(text: str) -> Path:
    """A path; a URL would become the name of a folder here."""
    if is_url(text):
        raise ValueError(f"{text} is a URL; a path on this machine is wanted here")
    return Path(text)
