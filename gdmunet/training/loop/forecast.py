"""The end of a whole training, estimated from the pace of its last steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gdmunet.quantities import duration

_KEPT = 200
_FIRST_STEPS = 3
_FIRST_SECONDS = 20.0
LONG_SECONDS = 2 * 86400.0
"""From here on a forecast says how a training can be made shorter."""
_ADVISED_SECONDS = 86400.0


@dataclass
class Forecast:
    """Pace and end of a training; a continued one starts with the pace that its journal holds.

    Attributes
    ----------
    total
        Optimiser steps of the whole training.
    slower_from
        Step from which on each takes longer, such as that at which an encoder joins; None: none is known.
    told
        Whether the first estimate of this process has been said.
    """

    total: int
    slower_from: int | None = None
    told: bool = False
    _earlier: float | None = None
    _marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def continue_from(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take over the pace of the journal's last epoch, validation included."""
        if not rows:
            return
        before = rows[-2]["iteration"] if len(rows) > 1 else 0
        steps = rows[-1]["iteration"] - before
        if steps > 0:
            self._earlier = (rows[-1]["seconds"] + (rows[-1].get("validation_seconds") or 0.0)) / steps

    def mark(self, iteration: int) -> None:
        """Note that a step has begun or ended; `iteration` counts the steps that are done."""
        if iteration == self.slower_from:
            self._marks.clear()  # the pace before says nothing of the steps from here on
            self._earlier = None
        self._marks.append((time.monotonic(), iteration))

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step with all that belongs to it; None: there is no estimate yet."""
        if len(self._marks) > _FIRST_STEPS:
            # The first step of a process loads kernels and fills pools.
            first = self._marks[1] if len(self._marks) < _KEPT else self._marks[0]
            last = self._marks[-1]
            if last[1] > first[1]:
                return (last[0] - first[0]) / (last[1] - first[1])
        return self._earlier

    def seconds_left(self) -> float | None:
        """Seconds to the end of the training; None: there is no estimate yet."""
        if self.step_seconds is None:
            return None
        done = self._marks[-1][1] if self._marks else 0
        return self.step_seconds * (self.total - done)

    def short(self) -> str:
        """Such as ``ends about 30 Nov 14:20``, for the bar; empty before there is an estimate."""
        left = self.seconds_left()
        return "" if not left else f"ends about {_moment(left)}"

    def first_words(self) -> str:
        """The first estimate of this process, said once, after a few steps; empty: not yet, or said already."""
        left = self.seconds_left()
        if self.told or left is None or not self._marks:
            return ""
        enough = self._marks[-1][0] - self._marks[0][0] >= _FIRST_SECONDS or len(self._marks) > 10 * _FIRST_STEPS
        if not (enough and len(self._marks) > _FIRST_STEPS):
            return ""
        self.told = True
        return self.sentence()

    def sentence(self) -> str:
        """Length and end of the whole run, and advice if it is long; empty before there is an estimate."""
        left, step = self.seconds_left(), self.step_seconds
        if left is None or step is None:
            return ""
        done = self._marks[-1][1] if self._marks else 0
        text = f"the whole run ends about {_moment(left)}, in {duration(left)}: {duration(step)} a step"
        if self.slower_from is not None and done < self.slower_from:
            text += f"; later, since steps take longer from iteration {self.slower_from:,} on"
        if left > LONG_SECONDS:
            text += (
                f"\nnote: a day allows about {max(1, int(_ADVISED_SECONDS / step)):,} steps here: train with "
                "--iterations N, or plan with --hours H"
            )
        return text


def _moment(seconds_ahead: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + seconds_ahead))
