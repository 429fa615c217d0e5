"""Settings of a trainer: typed class attributes that a subclass or a flag overrides by name.

A name with an annotation declares a setting; a bare name overrides an inherited one. A bare name that no base
declares is refused when the class is made, so a typo fails at import, not after a week of training.
"""

from __future__ import annotations

import difflib
import inspect
import re
import types
import typing
from typing import Any, ClassVar

from gdmunet.errors import GdmError


class Settings:
    """Base of everything that has settings."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        declared = declared_settings(cls)
        own = inspect.get_annotations(cls)
        for name, value in cls.__dict__.items():
            if name.startswith("_") or name in own or _is_behaviour(value):
                continue
            if name not in declared:
                raise GdmError(
                    f"{cls.__name__}.{name} does not override a setting{near(name, declared)}",
                    remedy="give it a type annotation if it is meant as a new setting",
                )
            if not _fits(value, declared[name]):
                raise GdmError(
                    f"{cls.__name__}.{name} has the wrong type",
                    found=repr(value),
                    expected=_describe(declared[name]),
                    remedy="give it a value of this type",
                )

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """Every setting and its value, in the order of declaration."""
        return {name: getattr(cls, name) for name in declared_settings(cls)}

    @classmethod
    def changed_from(cls, base: type[Settings]) -> dict[str, Any]:
        """The settings that `base` has with another value, or not at all."""
        theirs = base.settings()
        return {name: value for name, value in cls.settings().items() if name not in theirs or theirs[name] != value}

    @classmethod
    def derive(cls, overrides: dict[str, str]) -> type:
        """A subclass with settings from texts such as ``{"epochs": "5"}``; its name says them.

        Raises
        ------
        GdmError
            Unknown setting (suggests the nearest one) or a text that does not fit its type.
        """
        if not overrides:
            return cls
        declared, values = declared_settings(cls), {}
        for name, text in overrides.items():
            if name not in declared:
                raise GdmError(
                    f"{cls.__name__} has no setting {name}{near(name, declared)}",
                    expected=", ".join(declared),
                    remedy="choose one of these settings",
                )
            values[name] = parse_value(text, declared[name], name)
        label = "-".join([cls.__name__] + [f"{name}={_in_a_name(value)}" for name, value in sorted(values.items())])
        return type(label, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__, **values})


def declared_settings(cls: type) -> dict[str, Any]:
    """Setting name to its type, bases first."""
    declared: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        names = [n for n in inspect.get_annotations(base) if not n.startswith("_")]
        if names:
            hints = typing.get_type_hints(base)
            declared.update({n: hints[n] for n in names if typing.get_origin(hints[n]) is not ClassVar})
    return declared


def is_overridden(cls: type, name: str) -> bool:
    """Whether a class gives a setting another value than where it is declared, be it the same one."""
    first = next(base for base in reversed(cls.__mro__) if name in inspect.get_annotations(base))
    return any(name in base.__dict__ for base in cls.__mro__ if base is not first)


def declared_default(cls: type, name: str) -> Any:
    """The value that a setting has where it is declared, whatever `cls` overrides."""
    first = next(base for base in reversed(cls.__mro__) if name in inspect.get_annotations(base))
    return first.__dict__.get(name)


def parse_value(text: str, kind: Any, name: str) -> Any:
    """Read a setting's value from text: numbers, words, true/false, none, or comma-separated lists."""
    for member in typing.get_args(kind) if _is_union(kind) else (kind,):
        try:
            return _parse(text.strip(), member)
        except ValueError:
            continue
    raise GdmError(
        f"setting {name} cannot be read", found=text, expected=_describe(kind), remedy="give a value of this type"
    )


def parts_of_name(label: str) -> tuple[str, set[str]]:
    """Name of the trainer that `derive` made a class of that name from, and the settings that it was given."""
    own_name, *settings = label.split("-")
    return own_name, {setting.partition("=")[0] for setting in settings}


def format_value(value: Any) -> str:
    """The text that `parse_value` reads as this value; lists, as JSON has them, count as tuples."""
    if isinstance(value, tuple | list):
        return ",".join(map(format_value, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def near(word: str, words: Any) -> str:
    """Text ``, did you mean X?`` for the nearest of `words`, or an empty one."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""


def _parse(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    if kind is type(None):
        if text.lower() != "none":
            raise ValueError
        return None
    if kind in (int, float, str):
        return kind(text)
    if typing.get_origin(kind) is typing.Literal:
        return next((a for a in typing.get_args(kind) if str(a) == text), None) or _refuse()
    if typing.get_origin(kind) is tuple:
        members = typing.get_args(kind)
        words = [word for word in text.split(",") if word]
        if len(members) == 2 and members[1] is Ellipsis:
            return tuple(_parse(word, members[0]) for word in words)
        if len(words) != len(members):
            raise ValueError
        return tuple(_parse(word, member) for word, member in zip(words, members, strict=True))
    raise ValueError


def _refuse() -> typing.NoReturn:
    raise ValueError


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if _is_union(kind):
        return any(_fits(value, member) for member in typing.get_args(kind))
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return value in members
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(members) == 2 and members[1] is Ellipsis:
            return all(_fits(item, members[0]) for item in value)
        return len(value) == len(members) and all(map(_fits, value, members))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind if isinstance(kind, type) else origin or object)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _is_behaviour(value: Any) -> bool:
    return callable(value) or isinstance(value, property | classmethod | staticmethod | types.MemberDescriptorType)


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def _in_a_name(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return re.sub(r"[^A-Za-z0-9.,+]", "_", text)
