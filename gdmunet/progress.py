"""The progress of a command: a bar with the time left, and lines that do not break into it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TextIO, TypeVar

from tqdm import tqdm

from gdmunet.plain_text import printable

Item = TypeVar("Item")


def say(text: str = "", stream: TextIO | None = None) -> None:
    """Print a line, by default on standard output. A bar on the terminal makes room for it.

    Names of foreign files and models are part of what is said: what a terminal would obey is written as its number.
    """
    stream = sys.stdout if stream is None else stream
    try:
        tqdm.write(printable(text), file=stream)
        stream.flush()
    except UnicodeEncodeError:
        say(text.encode("ascii", "backslashreplace").decode(), stream)
    except (OSError, ValueError, AttributeError):
        return  # nobody reads any more, which is not a reason to lose work


class Progress:
    """Counts steps and shows them on standard error: a bar on a terminal, plain lines otherwise.

    Parameters
    ----------
    title
        Name of the work, such as ``"preprocessing 3d_fullres"``.
    total
        Number of steps in all.
    show
        False for silence (``--no_pbar``).
    every
        Seconds between plain lines where standard error is not a terminal.

    Notes
    -----
    A bar inside another stands below it, and goes when it is done.
    """

    def __init__(self, title: str, total: int, show: bool = True, every: float = 15.0) -> None:
        self.title, self.total, self.done = title, total, 0
        self._started = self._last = time.monotonic()
        self._every = every
        self._plain = show and not (sys.stderr is not None and sys.stderr.isatty())
        hidden = not show or self._plain
        self._bar = tqdm(total=total, desc=title, disable=hidden, dynamic_ncols=True, leave=None)

    def step(self, note: str = "", count: int = 1) -> None:
        """Count `count` finished steps; `note` is shown behind the bar."""
        self.done += count
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        with contextlib.suppress(OSError, ValueError):  # nobody sees the bar any more
            self._bar.update(count)
        now = time.monotonic()
        if self._plain and (now - self._last >= self._every or self.done == self.total):
            self._last = now
            left = (now - self._started) / self.done * (self.total - self.done)
            say(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left {note}".rstrip(), sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def track(title: str, items: Sequence[Item], show: bool = True) -> Iterator[Item]:
    """Iterate over `items`, showing progress."""
    with Progress(title, len(items), show) as progress:
        for item in items:
            yield item
            progress.step()
