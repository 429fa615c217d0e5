"""A request as the command line that makes it, such as the next command that a command proposes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gdmunet.errors import CommandLine
from gdmunet.paths import FolderName
from gdmunet.workflows.requests.declaration import Request, RequestField, request_fields


def command_line(request: Request, folders: Mapping[FolderName, str] | None = None) -> CommandLine:
    """The command of a request with a flag for every value that is not the default.

    Parameters
    ----------
    folders
        Folders that the user chose by a flag; those that the command uses are given to it as well.
    """
    fields = [field for field in request_fields(type(request)) if getattr(request, field.name) != field.default]
    positional = {field.name: getattr(request, field.name) for field in fields if _positional(field)}
    words = [str(value) for value in positional.values() if not isinstance(value, tuple)]
    for field in fields:
        if not _positional(field):
            words += _flag(field, getattr(request, field.name))
    for name, folder in (folders or {}).items():
        if name in request.synopsis.folders:
            words += [f"--{name}", folder]
    for value in positional.values():
        if isinstance(value, tuple):  # a command, whose flags are not this one's
            words += ["--", *value]
    return CommandLine(request.synopsis.name, *words)


def _positional(field: RequestField) -> bool:
    return not field.flag.spellings and not field.flag.switches


def _flag(field: RequestField, value: Any) -> Iterator[str]:
    for switch in field.flag.switches:
        if switch.value == value:
            yield switch.spelling
    if field.flag.switches:
        return
    yield field.flag.spellings[0]
    if field.kind.scalar is bool or (field.flag.const is not None and value == field.flag.const):
        return
    if field.kind.count == "map":
        yield from (f"{name}={setting}" for name, setting in value.items())
    elif isinstance(value, tuple):
        yield from map(str, value)
    else:
        yield str(value)
