"""How many windows go through a network in one pass."""

from __future__ import annotations

import math

import torch

from gdmunet.plans import Configuration

# PyTorch's convolution of one 3D image on a CPU leaves the fast library if channels times the lengths of its first two
# axes are at most this many (aten/src/ATen/native/Convolution.cpp, use_mkldnn); two images never do.
_SLOW_BELOW = 20480
# Work in such convolutions from which a second window is worth its memory.
_SLOW_SHARE = 0.1


def windows_per_pass(configuration: Configuration, device: torch.device) -> int:
    """The configuration's batch on a GPU and for slices; on a CPU two small windows, or one large one."""
    if device.type != "cpu" or configuration.dimensions == 2:
        return configuration.batch_size
    return 2 if _slow_share(configuration) > _SLOW_SHARE else 1


def _slow_share(configuration: Configuration) -> float:
    """Share of a pass over one window that convolutions outside the fast library do."""
    network, shape, slow, total = configuration.network, list(configuration.window_size), 0.0, 0.0
    for features, stride in zip(network.features, network.strides, strict=True):
        shape = [math.ceil(n / step) for n, step in zip(shape, stride, strict=True)]
        work = features**2 * math.prod(shape)
        total += work
        if features * shape[0] * shape[1] <= _SLOW_BELOW:
            slow += work
    return slow / total
