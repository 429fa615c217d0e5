"""``gdm_completion``: the flags of all commands for a shell."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser
from gdmunet.cli.flags import command, parser_of
from gdmunet.paths import Folders
from gdmunet.workflows.requests.declaration import Request, request_fields
from gdmunet.workflows.requests.shell import CompletionRequest
from gdmunet.workflows.requests.values import Place


@command(CompletionRequest)
def main(request: CompletionRequest, folders: Folders) -> None:
    """Entry point of ``gdm_completion``."""
    import shtab

    from gdmunet.workflows.requests.catalogue import REQUESTS

    del folders
    print("\n".join(shtab.complete(_with_paths(kind), request.shell) for kind in REQUESTS))


def _with_paths(kind: type[Request]) -> CommandParser:
    """The parser of a request's command, in which flags that take a path say so to the shell."""
    import shtab

    parser = parser_of(kind)
    paths = {field.name for field in request_fields(kind) if field.kind.scalar in (Path, Place)} | set(
        kind.synopsis.folders
    )
    for action in parser._actions:  # argparse has no other way to ask for them
        if action.dest in paths:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser
