"""Ctrl-C, SIGTERM and the end of a login (SIGHUP): finish the step, save, then stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, NoReturn

from gdmunet.ending import ending_signals
from gdmunet.errors import Stopped, signal_name
from gdmunet.progress import say


class Interruption:
    """While open, the first Ctrl-C, SIGTERM or SIGHUP sets `requested` and says so; the second stops at once.

    Parameters
    ----------
    led
        Whether a launcher leads this process as one of several. It stops all at once, by a signal that cannot be
        handled; it passes other signals on, which may have come here already. Its own end asks for the end as well.
    """

    def __init__(self, led: bool = False) -> None:
        self.requested: int | None = None
        self._led, self._parent = led, os.getppid()
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    @property
    def wanted(self) -> bool:
        """Whether the end is asked for."""
        if self._led and self.requested is None and os.getppid() != self._parent:
            self.requested = signal.SIGTERM
        return self.requested is not None

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, *ending_signals()):
            if signal.getsignal(number) != signal.SIG_IGN:  # the parent's, or that of nohup
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
        if self.requested is not None and not self._led:
            raise Stopped(number)
        self.requested = number
        if not self._led:
            _answer(f"{signal_name(number)}: stopping after this step; once more stops at once, without saving")


def _answer(text: str) -> None:
    """Print a line from within a signal's handler."""
    try:
        say(text, sys.stderr)
    except RuntimeError:  # the signal came in the middle of another print
        with contextlib.suppress(OSError):
            os.write(2, f"\n{text}\n".encode())
