"""One strict codec between frozen dataclasses and JSON.

An unknown, missing or wrongly typed key is an error that says its path, such as
``plans.configurations['3d_fullres'].patch_sise: unknown key, did you mean patch_size?``.

A dataclass may have short forms, ``short_forms: ClassVar[dict[str, dict]]``: a word that stands in a file for all its
fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from gdmunet.atomic import write_text
from gdmunet.errors import GdmError
from gdmunet.foreign import parse_json, read_bounded, reading, reason
from gdmunet.formats import FileFormat
from gdmunet.plain_text import one_line

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Turn dataclasses, tuples and paths into plain JSON values; refuse values without an exact form there."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        whole = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return next((word for word, fields in _short_forms(type(value)).items() if fields == whole), whole)
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(kind: type[T], value: Any, path: str = "") -> T:
    """Build `kind` (a dataclass) from parsed JSON, checking every key and type.

    Raises
    ------
    GdmError
        Names the path of the first wrong key.
    """
    value = _decode(kind, value, path or kind.__name__.lower())
    return typing.cast(T, value)


def save_json(value: Any, file: Path) -> None:
    """Write a dataclass (or plain JSON value) to `file` atomically, indented for people."""
    write_text(file, format_json(to_json(value)) + "\n")


def load_json(kind: type[T], file: Path, name: str | None = None, file_format: FileFormat | None = None) -> T:
    """Read `file` into the dataclass `kind`; errors name the file and the key's path.

    With a `file_format`, files of its older versions are read as well.
    """
    with reading(f"{Path(file).name} cannot be used", file, remedy="correct that key, or make the file anew"):
        value = read_json(file)
        if file_format is not None and isinstance(value, dict):
            value = file_format.upgrade(value)
        return from_json(kind, value, name or Path(file).stem)


def parse_as(kind: type[T], content: bytes | str, name: str, file_format: FileFormat | None = None) -> T:
    """Read a JSON text, such as the header of another file, into the dataclass `kind`.

    Raises
    ------
    GdmError
        Not JSON, or not of that kind.
    """
    try:
        value = parse_json(content)
    except ValueError as error:
        raise GdmError(f"{name} is not valid JSON", found=reason(error)) from error
    if file_format is not None and isinstance(value, dict):
        value = file_format.upgrade(value)
    return from_json(kind, value, name)


def read_json(file: Path) -> Any:
    """Parse a JSON file; a missing or malformed one is an error that names it."""
    content = read_bounded(file)
    try:
        return parse_json(content)
    except ValueError as error:
        raise GdmError(f"{Path(file).name} is not valid JSON", file=file, found=reason(error)) from error


def format_json(value: Any, indent: int = 0) -> str:
    """Indented JSON in which a list of numbers stays on one line (a patch size reads as one thing)."""
    pad, inner = " " * indent, " " * (indent + 4)
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(key)}: {format_json(item, indent + 4)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{pad}}}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "[\n" + ",\n".join(inner + format_json(item, indent + 4) for item in value) + f"\n{pad}]"
    return json.dumps(value)


def _decode(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), value, path)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value, path)
    if origin is typing.Literal:
        if not any(type(value) is type(word) and value == word for word in arguments):
            raise _type_error(path, value, "one of " + ", ".join(map(repr, arguments)), _near(value, arguments))
        return value
    if origin is dict:
        _require(isinstance(value, dict), path, value, "an object")
        return {key: _decode(arguments[1], item, f"{path}[{_named(key)!r}]") for key, item in value.items()}
    if origin in (tuple, list):
        return _decode_sequence(origin, arguments, value, path)
    return _decode_scalar(kind, value, path)


def _short_forms(kind: type) -> dict[str, dict[str, Any]]:
    forms: dict[str, dict[str, Any]] = getattr(kind, "short_forms", {})
    return forms


def _decode_dataclass(kind: type, value: Any, path: str) -> Any:
    if isinstance(value, str):
        value = _short_forms(kind).get(value, value)
    _require(isinstance(value, dict), path, value, "an object")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise GdmError(f"{path}.{_named(key)}: unknown key{_near(key, fields)}")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _decode(hints[name], value[name], f"{path}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise GdmError(f"{path}.{name}: missing key")
    try:
        return kind(**arguments)
    except GdmError as error:
        error.within(path)
        raise


def _decode_union(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    members = [member for member in arguments if member is not type(None)]
    errors = []
    for member in members:
        try:
            return _decode(member, value, path)
        except GdmError as error:
            errors.append(error)
    raise errors[0]


def _decode_sequence(origin: type, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    _require(isinstance(value, list), path, value, "a list")
    if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        kinds = [arguments[0]] * len(value)
    else:
        kinds = list(arguments)
        _require(len(value) == len(kinds), path, value, f"a list of {len(kinds)}")
    return origin(_decode(kind, item, f"{path}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _decode_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float:
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        _require(numeric and abs(value) <= sys.float_info.max, path, value, "a number")  # nan compares as False
        return float(value)
    if kind is int:
        _require(isinstance(value, int) and not isinstance(value, bool), path, value, "a whole number")
        return value
    if kind in (bool, str):
        _require(isinstance(value, kind), path, value, "true or false" if kind is bool else "a text")
        return value
    if kind is Path:
        _require(isinstance(value, str), path, value, "a path")
        return Path(value)
    raise TypeError(f"{path}: the codec does not know {kind}")


def _named(key: str) -> str:
    """A key of the file as a part of a path."""
    return one_line(key, 80)


def _near(word: Any, words: Any) -> str:
    close = difflib.get_close_matches(str(word)[:80], [str(item) for item in words], n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""


def _require(condition: bool, path: str, value: Any, expected: str) -> None:
    if not condition:
        raise _type_error(path, value, expected)


def _type_error(path: str, value: Any, expected: str, hint: str = "") -> GdmError:
    return GdmError(f"{path}: wrong value{hint}", found=one_line(json.dumps(value, default=str), 80), expected=expected)
