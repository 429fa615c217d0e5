"""The declaration of a request: each field is said once, with its type, default, help, spellings and bounds.

A field of a request makes a flag, its line in ``--help`` and on the reference page, the keyword of the Python call, and
the check of its value.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform, overload

from gdmunet.errors import GdmError
from gdmunet.paths import FolderName
from gdmunet.workflows.requests.values import Bounds, ValueKind

T = TypeVar("T")
C = TypeVar("C", bound="type[Request]")
_KEY = "flag"


class RequestError(GdmError):
    """A request that contradicts itself. The command line says it as it says an unknown flag, with status 2."""


@dataclass(frozen=True)
class Synopsis:
    """The name of a request's command, its purpose, its folders, and whether it reads prepared cases behind a URL."""

    name: str
    description: str
    folders: tuple[FolderName, ...] = ()
    reads_url: bool = False


@dataclass(frozen=True)
class Switch:
    """A flag without a value that sets its field to `value`."""

    spelling: str
    value: object
    help: str


@dataclass(frozen=True)
class Flag:
    """One field on a command line.

    Attributes
    ----------
    spellings
        ``-tr``, ``--trainer``; none for a positional argument.
    help
        A noun phrase, with the default if the value itself does not say it.
    metavar
        Placeholder of the value in texts; None: the long spelling, or the choices.
    choices
        Allowed values where the annotation has no ``Literal``.
    bounds
        Bounds of a number.
    const
        Value of the flag without a value.
    group
        Name of a group; flags of one group exclude each other.
    common
        Whether it is listed with the flags that every command has.
    switches
        Several flags without a value, instead of `spellings`.
    """

    spellings: tuple[str, ...]
    help: str
    metavar: str | tuple[str, ...] | None = None
    choices: tuple[Any, ...] | None = None
    bounds: Bounds | None = None
    const: object = None
    group: str | None = None
    common: bool = False
    switches: tuple[Switch, ...] = ()


@overload
def option(*spellings: str, help: str, default: T, **more: Any) -> T: ...
@overload
def option(*spellings: str, help: str, **more: Any) -> Any: ...
def option(*spellings: str, help: str, default: Any = dataclasses.MISSING, **more: Any) -> Any:
    """A field that is said by a flag, or, without `spellings`, by its position.

    Parameters
    ----------
    help, more
        The same as in `Flag`.
    default
        Default of the field; without it the value is required.
    """
    return _field(Flag(spellings, help, **more), default)


def switches(*alternatives: Switch, group: str, default: None) -> Any:
    """A field that one of several flags without a value sets; `default` without any of them."""
    return _field(Flag((), "", group=group, switches=alternatives), default)


def _field(flag: Flag, default: Any) -> Any:
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata={_KEY: flag})
    return dataclasses.field(default=default, metadata={_KEY: flag})


@dataclass(frozen=True)
class RequestField:
    """A field of a request: its name, kind, default and flag. `default` is MISSING where the value is required."""

    name: str
    kind: ValueKind
    default: Any
    flag: Flag

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """The values that are allowed; None: any."""
        return self.flag.choices or self.kind.choices

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is dataclasses.MISSING

    def check(self, value: Any) -> None:
        """Refuse one value, or member of a tuple, that is out of bounds or is not one of the choices (ValueError)."""
        if self.flag.bounds is not None:
            self.flag.bounds.check(value)
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, self.choices))}")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option, switches))
def request(kind: C) -> C:
    """Make a class with `option` fields a frozen dataclass of keywords."""
    return typing.cast(C, dataclass(frozen=True, kw_only=True)(kind))


@request
class Request:
    """A command with its options, checked. Every field has a keyword in Python and a flag on the command line."""

    synopsis: ClassVar[Synopsis]

    def __post_init__(self) -> None:
        """Refuse values of another kind or out of bounds, and two options that exclude each other (RequestError)."""
        chosen: dict[str, list[str]] = {}
        for field in request_fields(type(self)):
            try:
                value = field.kind.fit(getattr(self, field.name), field.check)
            except ValueError as error:
                raise RequestError(f"{field.name}: {error}", remedy="correct this option") from None
            object.__setattr__(self, field.name, value)
            if field.flag.group is not None and value != field.default:
                chosen.setdefault(field.flag.group, []).append(field.name)
        for names in chosen.values():
            if len(names) > 1:
                raise RequestError(f"{' and '.join(names)} exclude each other", remedy="choose one of them")


@request
class ProgressRequest(Request):
    """A request whose command shows progress."""

    show_progress: bool = option("--no_pbar", help="show no progress", default=True, common=True)


def request_fields(kind: type[Request]) -> tuple[RequestField, ...]:
    """The fields of a request in the order in which ``--help`` lists them."""
    hints = typing.get_type_hints(kind)

    def fields() -> Iterator[RequestField]:
        for field in dataclasses.fields(kind):
            default = {} if field.default_factory is dict else field.default
            yield RequestField(field.name, ValueKind.of(hints[field.name]), default, field.metadata[_KEY])

    return tuple(fields())
