"""Parts of the cases of a command: the one that a request asks for, and the commands of those that are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from gdmunet.parts import OpenParts, PartOptions
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.quantities import counted
from gdmunet.workflows.requests.declaration import Request
from gdmunet.workflows.requests.spelling import command_line

R = TypeVar("R", bound=Request)
# Commands that are listed; the others differ in the number alone.
_LISTED = 10


def share_of(request: Request) -> PartOptions:
    """The part of the cases that a request asks for; all of them if its command knows no parts."""
    asked: Any = request
    return PartOptions(getattr(asked, "num_parts", 1), getattr(asked, "part_id", 0))


def has_scheduler(request: Request) -> bool:
    """Whether the cases of a request go to a scheduler, so that what is finished is kept if that goes away."""
    return getattr(request, "scheduler", None) is not None


def say_missing(missing: OpenParts, request: Request, folders: Folders) -> None:
    """Say which parts are missing, each with the command that makes it."""
    parts = f"{counted(missing.parts, 'part')} of {share_of(request).num_parts}"
    say(f"missing: {parts}, with {counted(missing.cases, 'case')}, made by")
    for part in missing.parts[:_LISTED]:
        say(f"  {command_line(request_of_part(request, part), dict(folders.typed))}")
    if len(missing.parts) > _LISTED:
        say(f"  and so on: {', '.join(map(str, missing.parts[_LISTED:]))}")


def request_of_part(request: R, part: int) -> R:
    """The request for another part."""
    changed: dict[str, Any] = {"part_id": part}
    return replace(request, **changed)
