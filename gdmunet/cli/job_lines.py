"""The command lines of ``gdm_submit``'s jobs: braces expanded, parsed as the commands themselves parse them."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence

from gdmunet.cli.arguments import CommandParser, folders_from
from gdmunet.cli.flags import parser_of, request_from
from gdmunet.errors import CommandLine
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.workflows.requests.catalogue import REQUESTS
from gdmunet.workflows.requests.declaration import Request, RequestError
from gdmunet.workflows.requests.submission import SubmitRequest
from gdmunet.workflows.submission.braces import command_lines
from gdmunet.workflows.submission.jobs import Job, additions

# They wait for a person, or for jobs of their own.
_NOT_FOR_A_QUEUE = ("gdm_submit", "gdm_listen", "gdm_view", "gdm_trust")


def read_jobs(request: SubmitRequest, folders: Folders) -> list[Job]:
    """The job of each command line, with what a job needs added to it, which is said.

    A line that its command's parser refuses ends the program, as the command itself would.

    Raises
    ------
    RequestError
        A command that is not one of gdmunet's, or that is not for a queue; options that do not fit a job.
    """
    if not request.command:
        raise RequestError("there is no command", remedy="give it after a --")
    jobs, added = list[Job](), dict[str, None]()
    for line in command_lines(request.command):
        kind = _kind_of(line[0])
        for words in _shell_expanded(line, kind):
            job, more = _read(words, kind, request, folders)
            jobs.append(job)
            added |= dict.fromkeys([str(CommandLine(*more))] if more else [])
    for text in added:
        say(f"added to {jobs[0].words[0]}: {text}")
    return jobs


def _kind_of(name: str) -> type[Request]:
    kinds = {kind.synopsis.name: kind for kind in REQUESTS if kind.synopsis.name not in _NOT_FOR_A_QUEUE}
    if name not in kinds:
        reason = "waits for a person or for jobs" if name in _NOT_FOR_A_QUEUE else "is not a command of gdmunet"
        raise RequestError(
            f"{name} {reason}, so it cannot be a job",
            expected=", ".join(kinds),
            remedy="give one of these commands after a --",
        )
    return kinds[name]


def _shell_expanded(line: Sequence[str], kind: type[Request]) -> list[tuple[str, ...]]:
    """One line for each of the words that a shell made of braces at the line's end.

    The shell gives ``gdm_train 501 3d_fullres {0,1}`` as ``gdm_train 501 3d_fullres 0 1``: one word more than the
    command takes. Such words stand at the end, after the last that the command takes.
    """
    parser = parser_of(kind)
    places = [action for action in parser._actions if not action.option_strings]
    given, spare = _parse(parser, line)
    if given is None or not spare or not places:
        return [tuple(line)]
    words = [str(getattr(given, places[-1].dest)), *spare]
    start = len(line) - len(words)
    if list(line[start:]) != words:
        raise RequestError(
            f"{line[0]} has more words than it takes: {' '.join(spare)}",
            remedy="quote braces that are not at the end of the command: '{501,502}'",
        )
    return [(*line[:start], word) for word in words]


def _read(
    words: tuple[str, ...], kind: type[Request], request: SubmitRequest, folders: Folders
) -> tuple[Job, tuple[str, ...]]:
    """The job of a line, and the words that were added to it."""
    parser = parser_of(kind)
    given = _parse(parser, words, strict=True)[0]
    if given is None:
        return Job(words, None, folders), ()
    more = additions(request_from(kind, given), 1 if request.gpus is None else request.gpus)
    for name, path in folders.typed:
        if name in kind.synopsis.folders and getattr(given, name) is None:
            more += (f"--{name}", path)
    words = (words[0], *more, *words[1:])
    given = _parse(parser, words, strict=True)[0]
    assert given is not None
    return Job(words, request_from(kind, given), folders_from(given)), more


def _parse(
    parser: CommandParser, line: Sequence[str], strict: bool = False
) -> tuple[argparse.Namespace | None, list[str]]:
    """What a line says, and spare words if it is not `strict`; None of one that only prints, such as ``--help``."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            if strict:
                return parser.parse_args(line[1:]), []
            return parser.parse_with_spare(line[1:])
    except SystemExit as end:
        if end.code:
            raise
        return None, []
