"""Sums and times of one epoch, and the journal's line that they become."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gdmunet.errors import GdmError
from gdmunet.training import distributed


@dataclass
class EpochMeter:
    """Sums what the steps of an epoch report; a resumed epoch takes over `counts` and `sums`.

    Attributes
    ----------
    counts, sums
        For each name the number of steps that reported a value, and the sum of the values. A drift
        that starts within an epoch reports in part of its steps.
    waited
        Seconds spent waiting for patches.
    before
        Seconds that an interrupted process had spent on the epoch.
    """

    counts: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    before: float = 0.0

    @classmethod
    def merged(cls, meters: Sequence[EpochMeter]) -> EpochMeter:
        """One meter of the same steps on several processes: the means over them, and the longest wait."""
        names = dict.fromkeys(name for meter in meters for name in meter.counts)
        counts = {name: max(meter.counts.get(name, 0) for meter in meters) for name in names}
        sums = {}
        for name in names:
            having = [meter for meter in meters if name in meter.counts]
            total = sum(meter.sums[name] for meter in having)
            # As they are where one process is alone: a quotient would round them.
            sums[name] = total if len(having) == 1 else total / sum(m.counts[name] for m in having) * counts[name]
        return cls(counts, sums, max(meter.waited for meter in meters), meters[0].started, meters[0].before)

    def add(self, values: dict[str, float], waited: float) -> None:
        """Count one step."""
        self.waited += waited
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    @property
    def seconds(self) -> float:
        """Spent on the epoch, by interrupted processes too."""
        return self.before + time.perf_counter() - self.started

    @property
    def wait_share(self) -> float:
        """Share of the time in which the device had no patches to compute on."""
        return self.waited / max(self.seconds, 1e-9)

    def means(self) -> dict[str, float]:
        """Mean of every value over the steps that reported it."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def losses(self) -> str:
        """The loss terms in words, for the progress bar."""
        means = self.means()
        return " ".join(f"{n.removeprefix('loss_')} {means[n]:.4f}" for n in means if n.startswith("loss_"))


def describe_epoch(row: dict[str, Any], total_epochs: int) -> str:
    """One line for people of a journal row."""
    losses = " ".join(f"{key.removeprefix('loss_')} {row[key]:.4f}" for key in row if key.startswith("loss_"))
    return (
        f"epoch {row['epoch'] + 1}/{total_epochs}: {losses}, validation MAE {row['validation_mae']:.1f} "
        f"{row['unit']}, {row['seconds']:.1f} s ({100 * row['wait_share']:.0f} % waiting for patches)"
    )


def check_finite(report: dict[str, float], iteration: int, identifiers: Iterable[str], *, gradient_too: bool) -> None:
    """Stop at a loss, or a gradient, that is not a number; the error names the cases of the batch.

    All processes stop together, with one error: its cases are those of the whole batch, its numbers those of the
    process with most bad ones.
    """
    names = [name for name in report if name.startswith("loss_") or (gradient_too and name == "gradient_norm")]
    bad = [name for name in names if not math.isfinite(report[name])]
    (any_bad,) = distributed.any_rank(bool(bad))
    if any_bad:
        every = distributed.gather((bad, {name: report[name] for name in names}, tuple(identifiers)))
        bad, found, _ = max(every, key=lambda one: len(one[0]))
        cases = sorted({identifier for *_, some in every for identifier in some})
        raise GdmError(
            f"the loss is not a number at iteration {iteration}: {', '.join(bad)}",
            case=", ".join(cases),
            found=found,
            remedy="look at these cases; lower the learning rate (--set learning_rate=1e-4) or use "
            "--set precision=float32. The last checkpoint is untouched: --c continues from it",
        )
