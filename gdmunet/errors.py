"""The one error type that a user sees: the problem, its place, what was found and expected, and the remedy."""

from __future__ import annotations

import copyreg
import pickle
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gdmunet.plain_text import printable

# Exit statuses above it name the signal that ended a command.
SIGNALLED = 128
# Of a run that a signal stopped and that wants to be started again (EX_TEMPFAIL of sysexits.h).
QUEUE_AGAIN = 75
# Where the prose of a remedy holds its command.
COMMAND = "{command}"


@dataclass(frozen=True, init=False)
class CommandLine:
    """A command line that a user can run as it is printed.

    Attributes
    ----------
    words
        Name of the command and its arguments, unquoted.
    """

    words: tuple[str, ...]

    def __init__(self, *words: object) -> None:
        object.__setattr__(self, "words", tuple(map(str, words)))

    def __str__(self) -> str:
        return shlex.join(self.words)


class GdmError(Exception):
    """A problem that the user can mend.

    The commands print it without a traceback and exit with status 1. Its facts are attributes; the text is made of
    them when it is printed, and nobody reads the text to learn a fact.

    Parameters
    ----------
    problem
        One sentence: what is wrong.
    case, file, found, expected
        The facts that locate it. Each given one becomes a line of the text.
    remedy
        The action that mends the problem, in prose.
    command
        The command that mends the problem. It is printed in the place of ``{command}`` in the remedy, else after it.
    """

    def __init__(
        self,
        problem: str,
        *,
        case: str | None = None,
        file: str | Path | None = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
        command: CommandLine | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.case = case
        self.file = file
        self.found = found
        self.expected = expected
        self.remedy = remedy
        self.command = command

    def located(
        self,
        *,
        case: str | None = None,
        file: str | Path | None = None,
        remedy: str | None = None,
        command: CommandLine | None = None,
    ) -> Self:
        """Fill in the facts that are missing, and give the same error to raise again; known facts stay."""
        self.case = case if self.case is None else self.case
        self.file = file if self.file is None else self.file
        self.remedy = remedy if self.remedy is None else self.remedy
        self.command = command if self.command is None else self.command
        return self

    def within(self, place: str) -> Self:
        """Put a place inside the case or the file before the problem, and give the same error to raise again."""
        self.problem = f"{place}: {self.problem}"
        return self

    def one_line(self) -> str:
        """The text without line breaks, for a cell of a table."""
        return " ".join(line.strip() for line in str(self).splitlines())

    def __str__(self) -> str:
        facts = {
            "case": self.case,
            "file": self.file,
            "found": self.found,
            "expected": self.expected,
            "remedy": self._remedy(),
        }
        lines = [self.problem, *(f"  {name}: {fact}" for name, fact in facts.items() if fact is not None)]
        # Names and texts of foreign files are part of it.
        return printable("\n".join(lines))

    def _remedy(self) -> str | None:
        if self.command is None:
            return self.remedy
        if self.remedy is None:
            return f"run {self.command}"
        prose = self.remedy if COMMAND in self.remedy else f"{self.remedy}: {COMMAND}"
        return prose.replace(COMMAND, str(self.command))

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the constructor, of a subclass too, with the problem alone. The cause and its
        # traceback stay in the process that raised; its text goes along as a note.
        facts = {name: _portable(fact) for name, fact in vars(self).items()}
        if self.__cause__ is not None:
            cause = f"caused by {type(self.__cause__).__name__}: {self.__cause__}"
            facts["__notes__"] = [*facts.get("__notes__", ()), cause]
        return copyreg.__newobj__, (type(self), *self.args), facts  # type: ignore[attr-defined]


class Stopped(KeyboardInterrupt):
    """The end of a run that a signal asked for.

    Parameters
    ----------
    number
        The signal: Ctrl-C's (SIGINT), or SIGTERM.
    again
        Whether the run goes on when it is started again, as its batch system is asked to.
    """

    def __init__(self, number: int = signal.SIGINT, again: bool = False) -> None:
        super().__init__(number, again)
        self.number, self.again = number, again

    @property
    def status(self) -> int:
        """The exit status that tells a shell or a scheduler of the signal, or to start the run again."""
        return QUEUE_AGAIN if self.again else SIGNALLED + self.number

    def __str__(self) -> str:
        return f"stopped by {signal_name(self.number)}"


class SilentEnd(SystemExit):
    """The end of a process whose reason another process prints.

    Parameters
    ----------
    status
        Exit status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def signal_name(number: int) -> str:
    """A signal as a user calls it."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _portable(fact: Any) -> Any:
    """The fact itself, or its text where another process cannot take it over."""
    try:
        pickle.dumps(fact)
    except (pickle.PicklingError, TypeError, AttributeError):
        return str(fact)
    return fact
