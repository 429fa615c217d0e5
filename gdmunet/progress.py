"""Progress of long work: a bar with the time left on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts steps and shows them on standard error.

    Parameters
    ----------
    title
        What is being done, such as ``"preprocessing 3d_fullres"``.
    total
        How many steps there will be.
    show
        False for silence (``--no_pbar``).
    every
        Seconds between plain lines where standard error is no terminal.
    """

    def __init__(self, title: str, total: int, show: bool = True, every: float = 15.0) -> None:
        self.title, self.total, self.done = title, total, 0
        self._started = self._last = time.monotonic()
        self._every = every
        self._plain = show and not sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=title, disable=not show or self._plain, dynamic_ncols=True)

    def step(self, note: str = "", count: int = 1) -> None:
        """Count `count` finished steps; `note` is shown behind the bar."""
        self.done += count
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)
        now = time.monotonic()
        if self._plain and (now - self._last >= self._every or self.done == self.total):
            self._last = now
            left = (now - self._started) / self.done * (self.total - self.done)
            print(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left {note}".rstrip(), file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def track(title: str, items: list, show: bool = True) -> Iterator:
    """Iterate over `items`, showing progress."""
    with Progress(title, len(items), show) as progress:
        for item in items:
            yield item
            progress.step()


def say(text: str) -> None:
    """Print text on standard output; a bar that is shown moves below it."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
