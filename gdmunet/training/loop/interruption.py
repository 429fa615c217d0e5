"""Ctrl-C and SIGTERM: finish the step, save, then stop. And one trainer a fold."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import FrameType, TracebackType

import psutil

from gdmunet.atomic import make_folder
from gdmunet.errors import GdmError
from gdmunet.results import RUNNING_FILE


class Interruption:
    """While open, the first Ctrl-C or SIGTERM only sets `requested`; the second stops at once."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = number


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
        self.file.write_text(json.dumps({"pid": me.pid, "started": me.create_time(), "host": os.uname().nodename}))
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
