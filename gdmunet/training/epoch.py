"""Sums and times of one epoch, and the journal's line that they become."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EpochMeter:
    """Counts the steps of an epoch; a resumed epoch takes over `steps` and `sums`.

    Attributes
    ----------
    steps
        Steps so far.
    sums
        Sum over the steps of every loss term and of the gradient's norm.
    waited
        Seconds spent waiting for patches, since this process began the epoch.
    """

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, values: dict[str, float], waited: float) -> None:
        """Count one step."""
        self.steps += 1
        self.waited += waited
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return time.perf_counter() - self.started

    @property
    def wait_share(self) -> float:
        """Share of the time in which the device had no patches to compute on."""
        return self.waited / max(self.seconds, 1e-9)

    def mean(self, name: str) -> float:
        """Mean of one value over the steps so far."""
        return self.sums[name] / max(1, self.steps)

    def losses(self) -> dict[str, float]:
        """Mean of every loss term, as ``loss_NAME``."""
        return {f"loss_{name}": self.mean(name) for name in self.sums if name != "gradient_norm"}


def describe_epoch(row: dict[str, Any], total_epochs: int) -> str:
    """One line for people of a journal row."""
    losses = " ".join(f"{key.removeprefix('loss_')} {row[key]:.4f}" for key in row if key.startswith("loss_"))
    return (
        f"epoch {row['epoch'] + 1}/{total_epochs}: {losses}, validation MAE {row['validation_mae']:.1f} "
        f"{row['unit']}, {row['seconds']:.1f} s ({100 * row['wait_share']:.0f} % waiting for patches)"
    )
