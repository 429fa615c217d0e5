"""The record of a training, epoch by epoch: journal.jsonl for programs, training_log.txt and progress.png for people.

Trackers (TensorBoard and others, `trackers.py`) listen to it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from gdmunet.atomic import append_text, atomic_file, make_folder, write_text
from gdmunet.journal import read_journal
from gdmunet.progress import say
from gdmunet.results import FoldFolder
from gdmunet.training.loop.progress_figure import draw_progress

# Seconds between two drawings of progress.png, which takes as long as many steps of a small training.
DRAW_EVERY = 30.0


class Journal:
    """Writes into one fold's folder.

    Parameters
    ----------
    folder
        The fold's folder; made if it is not there.
    speak
        Whether every line is printed too.

    Attributes
    ----------
    listeners
        Functions that hear of every row, such as `Trackers.record`.
    """

    def __init__(self, folder: FoldFolder, speak: bool) -> None:
        self.folder, self.speak = folder, speak
        self.file = folder.journal
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self._drawn = time.monotonic()
        make_folder(folder.path)

    def say(self, text: str) -> None:
        """Add a line with the time to training_log.txt."""
        append_text(self.folder.log, f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
        if self.speak:
            say(text)

    def record(self, row: dict[str, Any]) -> None:
        """Add one epoch's line; a number that is not finite becomes null, JSON has no other form for it."""
        clean = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
        append_text(self.file, json.dumps(clean) + "\n")
        for listener in self.listeners:
            listener(row)

    def rows(self) -> tuple[dict[str, Any], ...]:
        """All epochs so far; a half-written last line is left out."""
        return read_journal(self.file) if self.file.exists() else ()

    def keep_first(self, epochs: int) -> None:
        """Drop the lines that a resumed training writes again: every line after the first `epochs`."""
        rows = [row for row in self.rows() if row["epoch"] < epochs]
        write_text(self.file, "".join(json.dumps(row) + "\n" for row in rows))

    def draw(self, last: bool = False) -> None:
        """Draw progress.png from the rows so far; not more than twice per minute before the last drawing."""
        if not last and time.monotonic() - self._drawn < DRAW_EVERY:
            return
        rows = self.rows()
        if rows:
            with atomic_file(self.folder.progress_figure) as stream:
                draw_progress(rows).savefig(stream, dpi=90, format="png")
        self._drawn = time.monotonic()
