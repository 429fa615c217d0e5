"""How a command lives and ends: output that nobody reads, signals that ask for the end, a parent that is gone."""

from __future__ import annotations

import contextlib
import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

from gdmunet.errors import SIGNALLED, Stopped

# The end of a pipe, of a terminal, of a disk: nothing that a run should die of.
_TRIES, _PAUSE = 100, 0.05
_ABANDONED: list[bool] = []
# What a process without a parent has to save its work.
_LAST_SECONDS = 300.0
_NOBODY_READS = (errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EBADF, errno.ENXIO, errno.ESTALE, errno.EDQUOT)


def ending_signals() -> list[int]:
    """Signals beside Ctrl-C that ask a command to end: SIGTERM, and SIGUSR1 and SIGHUP unless ignored (nohup).

    SIGUSR1 is what batch systems send some time before the end of a job.
    """
    others = (getattr(signal, name, None) for name in ("SIGUSR1", "SIGHUP"))
    return [signal.SIGTERM, *(one for one in others if one is not None and signal.getsignal(one) != signal.SIG_IGN)]


@contextlib.contextmanager
def signals_end() -> Iterator[None]:
    """Inside, the first SIGTERM or SIGHUP raises `Stopped` in the main thread, so that workers end and files go.

    Further ones are ignored: the way out is not left again. Ctrl-C stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()
    numbers = ending_signals()

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(SIGNALLED + number)  # forked off, and never told what to do
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    previous: dict[int, Any] = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def end_with_parent(number: int | None = None) -> None:
    """Let this process end once the one that started it is gone: by a signal to itself, or at once where None."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        if number is not None:
            signal.raise_signal(number)
            time.sleep(_LAST_SECONDS)  # to save; but not to wait for others that are gone as well
        os._exit(SIGNALLED + signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def abandon_threads() -> None:
    """Say that a thread hangs for good: the command then ends without waiting for it, which Python would do."""
    _ABANDONED.append(True)


def leave_abandoned(status: int) -> None:
    """End the process at once if a thread of it hangs; else nothing."""
    if _ABANDONED:
        os._exit(status)


@contextlib.contextmanager
def patient_output() -> Iterator[None]:
    """Inside, printing never fails: what nobody reads any more is dropped, what has no character becomes an escape."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _patient(before[0]), _patient(before[1])
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


class _PatientFile(io.FileIO):
    """A stream of the system that is quiet once its other end is gone."""

    def write(self, content: Any, /) -> int:
        try:
            for _ in range(_TRIES):
                written: int | None = super().write(content)
                if written is not None:
                    return written
                time.sleep(_PAUSE)  # a pipe that does not wait, whose reader is slow
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                raise
        return len(content)


def _patient(stream: TextIO | None) -> TextIO:
    """The same stream as one that never fails; one that Python made (a test's capture) as it is."""
    if stream is None:  # the command was started with the stream closed
        return io.StringIO()
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        stream.flush()
        raw = _PatientFile(stream.fileno(), "wb", closefd=False)
    except (OSError, ValueError):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream is sys.stderr,
        write_through=stream.write_through,
    )
