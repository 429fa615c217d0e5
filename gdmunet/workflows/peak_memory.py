"""Peak memory of a run, watched from a thread."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil


class PeakMemory:
    """Largest resident memory of this process and its children, sampled in the background.

    Attributes
    ----------
    peak_mb
        MB of 1e6 bytes.
    """

    def __init__(self, every: float = 0.25) -> None:
        self.peak_mb = 0.0
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        here = psutil.Process()
        while True:
            self.peak_mb = max(self.peak_mb, sum(map(_resident_mb, [here, *here.children(recursive=True)])))
            if self._end.wait(self._every):
                return


def _resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0  # it ended between the list and the question
