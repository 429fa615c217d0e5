"""Host memory of the processes that make patches, predicted from a configuration."""

from __future__ import annotations

import math

from gdmunet.plans import Configuration

PROCESS_BYTES = 350_000_000
"""A Python process with the libraries that make patches; measured on Linux, where a part of it is shared."""
_BATCHES = 5
"""Batches that one process holds: two that wait, one on its way, one in the making and its source."""
_FREE_SHARE = 0.5
"""Share of the free host memory that all such processes may take."""


def loader_bytes(configuration: Configuration, patches: int) -> int:
    """Bytes of one process that makes batches of that number of patches: conditions, target and mask in float32."""
    channels = configuration.network.condition_channels + 2
    batch = patches * math.prod(configuration.patch_size) * channels * 4
    return PROCESS_BYTES + _BATCHES * batch


def most_loaders(configuration: Configuration, patches: int, free: int) -> int:
    """Number of such processes for which `free` bytes of host memory are enough, at least one."""
    return max(1, int(_FREE_SHARE * free / loader_bytes(configuration, patches)))
