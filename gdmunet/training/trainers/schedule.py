"""Pure functions of the iteration: the learning rate, and the seed of a step's draws."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_factor(
    iteration: int, total: int, warmup: int, shape: Literal["cosine", "poly"] = "cosine", floor: float = 0.0
) -> float:
    """Factor on the base learning rate: linear warm-up, then decay to `floor` at the last iteration.

    Parameters
    ----------
    iteration
        0-based number of the optimiser step.
    total, warmup
        Number of steps in all and in the warm-up.
    shape
        ``cosine``: half a cosine; ``poly``: (1 - t) ** 0.9, as nnU-Net.
    """
    if iteration < warmup:
        return (iteration + 1) / warmup
    share = min(1.0, (iteration - warmup) / max(1, total - warmup))
    decay = 0.5 * (1 + math.cos(math.pi * share)) if shape == "cosine" else (1 - share) ** 0.9
    return floor + (1 - floor) * decay
