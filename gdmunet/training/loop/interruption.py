"""Ctrl-C and SIGTERM: finish the step, save, then stop. A fold has one trainer at a time."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import psutil

from gdmunet.atomic import make_folder
from gdmunet.errors import GdmError, Stopped, signal_name
from gdmunet.progress import say
from gdmunet.results import RUNNING_FILE


class Interruption:
    """While open, the first Ctrl-C or SIGTERM sets `requested` and says so; the second stops at once.

    Parameters
    ----------
    speak
        Whether this process prints; one of several does.
    """

    def __init__(self, speak: bool = True) -> None:
        self.requested: int | None = None
        self._speak = speak
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stop(self) -> NoReturn:
        """End the run as the signal asked.

        Raises
        ------
        Stopped
            Always.
        """
        raise Stopped(signal.SIGINT if self.requested is None else self.requested)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a process that was forked off: it ends when its parent says so
        if self.requested is not None:
            raise Stopped(number)
        self.requested = number
        if self._speak:
            _answer(f"{signal_name(number)}: stopping after this step; once more stops at once, without saving")


def _answer(text: str) -> None:
    """Print a line from within a signal's handler."""
    try:
        say(text, sys.stderr)
    except RuntimeError:  # the signal came in the middle of another print
        os.write(2, f"\n{text}\n".encode())


class FoldLock:
    """Holds a fold's folder for this process; a process that died holds nothing."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / RUNNING_FILE

    def __enter__(self) -> FoldLock:
        owner = self._owner()
        if owner is not None:
            raise GdmError(
                "this fold is being trained by another process",
                file=self.file,
                found=f"process {owner} is running",
                remedy="wait for it or stop it; train another fold meanwhile",
            )
        me = psutil.Process()
        make_folder(self.file.parent)
        self.file.write_text(json.dumps({"pid": me.pid, "started": me.create_time(), "host": platform.node()}))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.unlink(missing_ok=True)

    def _owner(self) -> int | None:
        try:
            claim = json.loads(self.file.read_text())
            process = psutil.Process(claim["pid"])
        except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
            return None
        return process.pid if abs(process.create_time() - claim["started"]) < 1 else None
