"""Ctrl-C and SIGTERM: finish the step, save, then stop. A fold has one trainer at a time."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import psutil

from gdmunet.atomic import make_folder
from gdmunet.errors import GdmError, Stopped, signal_name
from gdmunet.foreign import read_bounded, reading
from gdmunet.progress import say
from gdmunet.ranges import within
from gdmunet.serialization import parse_as


class Interruption:
    """While open, the first Ctrl-C or SIGTERM sets `requested` and says so; the second stops at once.

    Parameters
    ----------
    led
        Whether a parent leads this process as one of several. The parent speaks, and stops all at once by the second
        signal; it passes the first one on, which may have come here already. Its own end asks for the end as well.
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
        for number in (signal.SIGTERM,) if self._led else (signal.SIGINT, signal.SIGTERM):
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
        os.write(2, f"\n{text}\n".encode())


@dataclass(frozen=True)
class _Claim:
    pid: int
    started: float
    host: str = ""

    def __post_init__(self) -> None:
        within("the number of a process", self.pid, 1, (1 << 31) - 1)


class FoldLock:
    """Holds a folder of results for this process; a process that died holds nothing.

    Parameters
    ----------
    file
        File in the folder that says which process holds it.
    aside
        The same file where the folder has been set aside.
    """

    def __init__(self, file: Path, aside: Path | None = None) -> None:
        self.file, self.aside = file, aside

    def __enter__(self) -> FoldLock:
        owner = self.owner()
        if owner is not None:
            raise GdmError(
                "this fold is being trained by another process",
                file=self.file,
                found=f"process {owner} is running",
                remedy="wait for it or stop it; train another fold meanwhile",
            )
        self.claim()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.unlink(missing_ok=True)

    def claim(self) -> None:
        """Say that this process holds the fold; again, where its folder has been set aside."""
        me = psutil.Process()
        make_folder(self.file.parent)
        self.file.write_text(json.dumps({"pid": me.pid, "started": me.create_time(), "host": platform.node()}))
        if self.aside is not None:
            self.aside.unlink(missing_ok=True)

    def owner(self) -> int | None:
        """The process that holds the fold; None if none does."""
        claims = (_claimant(file) for file in (self.file, self.aside) if file is not None)
        return next((owner for owner in claims if owner is not None), None)


def _claimant(file: Path) -> int | None:
    if not file.exists():
        return None
    with reading("the claim on the fold cannot be read", file, remedy="remove it if no training of the fold runs"):
        claim = parse_as(_Claim, read_bounded(file, 1 << 16), "claim")
    try:
        process = psutil.Process(claim.pid)
    except psutil.NoSuchProcess:
        return None
    return process.pid if abs(process.create_time() - claim.started) < 1 else None
