"""Seeds of random draws, step by step: a pure function of the run's seed and the step, so that resuming repeats it."""

from __future__ import annotations

# More iterations than this let two seeds of a run meet.
_ITERATIONS = 1_000_003
# Most places (ranks, or windows of a batch) that one step draws for.
_PLACES = 64


def step_seed(seed: int, iteration: int, place: int | None = None) -> int:
    """Seed of an iteration, and there of a `place`, such as a process or a place in the batch."""
    number = seed * _ITERATIONS + iteration
    return number if place is None else (number * _PLACES + place) % 2**63
