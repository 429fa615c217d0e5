"""Requests as command lines: the flags of a request's fields, and the request of what was typed."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from gdmunet.cli.arguments import CommandParser, Main, folders_from, run_command
from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.plain_text import printable
from gdmunet.promises import promises_kept
from gdmunet.workflows.requests.declaration import Request, RequestError, RequestField, request_fields
from gdmunet.workflows.requests.shared import check_url, scheduled
from gdmunet.workflows.requests.spelling import command_line

R = TypeVar("R", bound=Request)
# Letters of the next command: one that was cut could not be copied.
_LONGEST = 100_000


def command(kind: type[R]) -> Callable[[Callable[[R, Folders], Request | int | None]], Main]:
    """Make the entry point of a command from a function of its request and the folders.

    The function gives the request that a user makes next, which is printed as a command line with the same folders; or
    an exit status. A request that contradicts itself ends the program as an unknown flag does: one line and status 2.
    """

    def wrap(work: Callable[[R, Folders], Request | int | None]) -> Main:
        @functools.wraps(work)
        def main(argv: list[str] | None = None) -> int | None:
            parser = parser_of(kind)
            arguments = parser.parse_args(argv)
            folders = folders_from(arguments)
            if folders.wait_limit is not None:
                _limit_waits(folders.wait_limit)
            try:
                asked = request_from(kind, arguments)
                check_url(asked, folders)
                with scheduled(asked), promises_kept():
                    done = work(asked, folders)
            except RequestError as error:
                parser.error(str(error))
            except GdmError as error:
                _complete(error, folders)
                raise
            if isinstance(done, Request):
                print(f"next: {printable(str(command_line(done, dict(folders.typed))), _LONGEST)}")
                return 0
            return done or 0

        return run_command(main)

    return wrap


def _limit_waits(seconds: float) -> None:
    from gdmunet.patience import set_wait_limit  # psutil, which --help need not read

    set_wait_limit(seconds)


def _complete(error: GdmError, folders: Folders) -> None:
    from gdmunet.workflows.requests.completion import complete  # all requests, which --help must not read

    complete(error, folders)


def parser_of(kind: type[Request]) -> CommandParser:
    """The parser of a request's command, with a flag for every field."""
    parser = CommandParser(kind.synopsis.name, kind.synopsis.description, folders=kind.synopsis.folders)
    groups: dict[str, Any] = {}
    for field in request_fields(kind):
        group = field.flag.group
        if field.flag.common:
            place: Any = parser.common
        elif group is None:
            place = parser
        else:
            place = groups[group] = groups.get(group) or parser.add_mutually_exclusive_group()
        _add(place, field)
    parser.add_version()
    return parser


def request_from(kind: type[R], arguments: argparse.Namespace) -> R:
    """The request that a parsed command line says; what was not typed has the field's default."""
    values = {}
    for field in request_fields(kind):
        value = getattr(arguments, field.name)
        if field.kind.count == "map":
            value = dict(value or ())
        elif isinstance(value, list):
            value = tuple(value)
        values[field.name] = value
    return kind(**values)


def _add(place: Any, field: RequestField) -> None:
    flag = field.flag
    for switch in flag.switches:
        place.add_argument(
            switch.spelling, dest=field.name, action="store_const", const=switch.value, default=None, help=switch.help
        )
    if flag.switches:
        return
    options: dict[str, Any] = {"help": flag.help}
    if field.kind.scalar is bool:
        place.add_argument(
            *flag.spellings, dest=field.name, action="store_false" if field.default else "store_true", **options
        )
        return
    options |= {"type": _reader(field), "choices": field.choices, "metavar": flag.metavar}
    if flag.spellings:
        options |= {"dest": field.name, "required": field.required}
        if flag.metavar is None and field.choices is None:
            options["metavar"] = flag.spellings[-1].lstrip("-").upper()
    if field.kind.count == "map":
        options |= {"nargs": "+", "action": "extend"}
    elif field.kind.count is not None:
        options["nargs"] = field.kind.count
        if _grows(field):
            options["action"] = "extend"  # a flag that is given twice loses nothing
    elif flag.const is not None:
        options |= {"nargs": "?", "const": flag.const}
    elif not flag.spellings and not field.required:
        options["nargs"] = "?"
    if not field.required and field.kind.count != "map":
        options["default"] = [] if field.default == () and _grows(field) else field.default
    place.add_argument(*(flag.spellings or (field.name,)), **options)


def _grows(field: RequestField) -> bool:
    """Whether a repeated flag adds to its values; where a default would be added to, the last one counts."""
    return field.kind.count == "+" and bool(field.flag.spellings) and (field.required or not field.default)


def _reader(field: RequestField) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = field.kind.read(text)
            if field.flag.bounds is not None:
                field.flag.bounds.check(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    return read
