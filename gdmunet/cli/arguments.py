"""Strict command lines: every flag is known or refused, every problem of the user is printed without a traceback."""

from __future__ import annotations

import argparse
import difflib
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from gdmunet.disk_errors import refuses_writing, writing_error
from gdmunet.ending import leave_abandoned, patient_output, signals_end
from gdmunet.errors import GdmError, SilentEnd, Stopped
from gdmunet.out_of_memory import is_out_of_memory
from gdmunet.paths import Folders, find_folders
from gdmunet.version import __version__

Main = Callable[[list[str] | None], int | None]

# Exit status after Ctrl-C, as shells give it.
INTERRUPTED = Stopped().status

_FOLDER_HELP = {
    "raw": "folder of the raw data sets; default: $GDM_RAW, else ./gdm_raw",
    "preprocessed": "folder of fingerprints, plans and preprocessed cases; default: $GDM_PREPROCESSED, "
    "else ./gdm_preprocessed",
    "results": "folder of trained models; default: $GDM_RESULTS, else ./gdm_results",
}


class _HelpFormatter(argparse.HelpFormatter):
    """Adds the default to the help of every flag that has one and does not say it itself."""

    def __init__(self, prog: str, indent_increment: int = 2, max_help_position: int = 32, width: int | None = None):
        super().__init__(prog, indent_increment, max_help_position, width)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return help_text(action)


def help_text(action: argparse.Action) -> str:
    """The help and the default of one flag, as ``--help`` and the reference page print them."""
    text = action.help or ""
    if "default" in text or not action.option_strings or isinstance(action, argparse._HelpAction):
        return text
    if action.nargs == 0:
        return f"{text} (default: off)" if action.dest != "version" else text
    if action.default is None or action.required:
        return text
    if isinstance(action.default, tuple):
        return f"{text} (default: {' '.join(map(str, action.default)) or 'none'})"
    return f"{text} (default: %(default)s)"


class CommandParser(argparse.ArgumentParser):
    """An argument parser that neither guesses nor drops: no abbreviations, no joined values, no unknown flags.

    ``-`` and ``_`` are one character inside a flag, so ``--step-size``, ``--step_size`` and ``-step_size`` are the
    same; an unknown flag ends the program with status 2 and names the nearest known one.

    Parameters
    ----------
    command
        Name of the command, such as ``gdm_train``.
    description
        One or two sentences.
    folders
        Folders of ``raw``, ``preprocessed``, ``results`` that the command uses: each becomes a flag.

    Attributes
    ----------
    common
        Group of the flags that most commands have, which ``--help`` prints after those that the command alone has.
    """

    def __init__(self, command: str, description: str, *, folders: Sequence[str] = ()) -> None:
        super().__init__(prog=command, description=description, allow_abbrev=False, formatter_class=_HelpFormatter)
        self.common = self.add_argument_group("common to all commands")
        for name in folders:
            self.common.add_argument(f"--{name}", metavar="DIR", help=_FOLDER_HELP[name])

    def add_version(self) -> None:
        """Add ``--version``, the last of the common flags."""
        self.common.add_argument("--version", action="version", version=f"{self.prog} (gdmunet) {__version__}")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse `args` (default: the command line) after checking that every flag is known."""
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_args(self._check_flags(words), namespace)

    def parse_with_spare(self, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse `args`, and give the words besides that have no place."""
        return self.parse_known_args(self._check_flags(list(args)))

    def error(self, message: str) -> NoReturn:
        """Print the problem and where to read more, then exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n{self.prog} --help lists the flags.\n")

    def _check_flags(self, words: list[str]) -> list[str]:
        """Replace each flag by its registered spelling.

        argparse alone would read ``-devise cuda`` as ``-d evise`` and drop nothing into an error.
        """
        known = {_fold(flag): flag for flag in self._option_string_actions}
        checked: list[str] = []
        for position, word in enumerate(words):
            if word == "--":
                return checked + words[position:]
            if not word.startswith("-") or word == "-" or _is_number(word):
                checked.append(word)
                continue
            flag, equals, value = word.partition("=")
            if _fold(flag) not in known:
                self.error(f"unknown flag {flag}{self._nearest(flag)}")
            spelled = known[_fold(flag)]
            checked.append(spelled + (equals + value or self._implied(spelled, words[position + 1 :])))
        return checked

    def _implied(self, flag: str, following: Sequence[str]) -> str:
        """The value of a flag that may stand alone, if no value of its own follows: argparse would take any word."""
        action = self._option_string_actions[flag]
        if action.nargs != "?" or action.choices is None or (following and following[0] in action.choices):
            return ""
        return f"={action.const}"

    def _nearest(self, flag: str) -> str:
        dashes = "--" if flag.startswith("--") else "-"
        # Of two spellings with one name the later wins: the one with as many dashes as the user gave.
        flags = sorted(self._option_string_actions, key=lambda known: known.startswith("--") == (dashes == "--"))
        by_name = {_fold(known).lstrip("-"): known for known in flags}
        close = difflib.get_close_matches(_fold(flag).lstrip("-"), list(by_name), n=1, cutoff=0.5)
        return f", did you mean {by_name[close[0]]}?" if close else ""


def folders_from(arguments: argparse.Namespace) -> Folders:
    """The three folders: flags, else environment, else the working folder."""
    return find_folders(*(getattr(arguments, name, None) for name in ("raw", "preprocessed", "results")))


def run_command(main_function: Main) -> Main:
    """Wrap a ``main`` so that it ends as a command should.

    A `GdmError`, memory that ran out, or the system's refusal to write, is printed to standard error without a
    traceback (status 1); Ctrl-C, SIGTERM and SIGHUP give one line (status 130, 143 and 129). Any other exception is a
    fault of gdmunet and keeps its traceback. Output that nobody reads any more ends nothing.
    """

    @functools.wraps(main_function)
    def wrapped(argv: list[str] | None = None) -> int | None:
        with patient_output():
            status = _ended(main_function, argv)
        leave_abandoned(status or 0)
        return status

    return wrapped


def _ended(main_function: Main, argv: list[str] | None) -> int | None:
    """The status of a command, its failure printed."""
    try:
        with signals_end():
            return main_function(argv)
    except GdmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as end:
        stopped = end if isinstance(end, Stopped) else Stopped()
        print(stopped, file=sys.stderr)
        return stopped.status
    except SilentEnd as end:
        return end.status
    except Exception as error:
        if isinstance(error, OSError) and refuses_writing(error):
            print(f"error: {writing_error('cannot write', error.filename, error)}", file=sys.stderr)
        elif is_out_of_memory(error):
            print(f"error: {_memory_error(error)}", file=sys.stderr)
        else:
            raise
        return 1


def _memory_error(error: BaseException) -> GdmError:
    from gdmunet.host_memory import ran_out  # --help need not pay for it

    notes = [note.removeprefix("in case ") for note in getattr(error, "__notes__", ()) if note.startswith("in case ")]
    return ran_out(error).located(case=notes[0] if notes else None)


def _fold(flag: str) -> str:
    return flag.replace("_", "-")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
