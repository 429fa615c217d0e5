"""Windows as large as memory holds, with little overlap: one pass over a volume, as nearly as it goes."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from gdmunet.device_memory import device_memory
from gdmunet.errors import GdmError
from gdmunet.geometry import Shape, triple
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import Configuration
from gdmunet.preprocessing.memory import LiveBytes

# Windows overlap by an eighth: a voxel goes through the network (8 / 7)^3 = 1.49 times at most.
FAST_STEP = 0.875
# Share of the usable memory for one window: kernels copy what they read, and the volume needs its own.
_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class WindowPlan:
    """Size of the windows of a volume in voxels, their step as a share of it, and how many go through in one pass."""

    window: Shape
    step_size: float
    batch_size: int


def fast_plan(shape: Shape, configuration: Configuration, device: torch.device) -> WindowPlan:
    """The largest windows for a volume of this shape that the device's memory holds.

    Raises
    ------
    GdmError
        The network's result depends on the size of its window.
    """
    network = configuration.network
    if network.norm == "instance":
        raise GdmError(
            "the network's result depends on the size of its window, so larger windows would shift the values",
            found="instance normalisation, whose mean and spread are those of the window",
            expected="a network with batch normalisation, or without any",
            remedy="omit --fast",
        )
    budget = _MEMORY_SHARE * device_memory(device).usable
    voxels = int(budget / bytes_per_voxel(network, configuration.patch_size))
    window = _largest_window(shape, configuration, voxels)
    batch = configuration.batch_size if configuration.dimensions == 2 else 1
    return WindowPlan(window, FAST_STEP, batch)


@functools.lru_cache
def bytes_per_voxel(network: NetworkSpec, patch: tuple[int, ...]) -> float:
    """Peak bytes of a pass in float32, for each voxel of a window; counted without computing."""
    with torch.device("meta"):
        generator = build_network(network).eval()
        window = torch.empty(1, network.in_channels, *patch)
    with torch.no_grad(), LiveBytes("meta") as memory:
        generator(window)
    return float(memory.peak / math.prod(patch))


def pass_bytes(network: NetworkSpec, patch: tuple[int, ...], window: Shape) -> int:
    """Peak bytes of a pass over one window (z, y, x) in float32."""
    return round(bytes_per_voxel(network, patch) * math.prod(window))


def _largest_window(shape: Shape, configuration: Configuration, voxels: int) -> Shape:
    """Cut the volume along its longest window until a window has at most that number of voxels, or is a patch."""
    smallest = configuration.window_size
    strides = configuration.network.strides
    missing = 3 - configuration.dimensions
    divisors = [1] * missing + [
        math.prod(stride[axis] for stride in strides) for axis in range(configuration.dimensions)
    ]
    pieces = [n if axis < missing else 1 for axis, n in enumerate(shape)]

    def size(axis: int) -> int:
        if axis < missing:
            return 1
        length = _piece(shape[axis], pieces[axis])
        return max(smallest[axis], -(-length // divisors[axis - missing]) * divisors[axis - missing])

    while math.prod(map(size, range(3))) > voxels:
        longer = [axis for axis in range(missing, 3) if size(axis) > smallest[axis]]
        if not longer:
            break
        pieces[max(longer, key=size)] += 1
    return triple(map(size, range(3)))


def _piece(length: int, count: int) -> int:
    """The least size with which this number of windows, a fast step apart, cover a length."""
    size = math.ceil(length / (1 + (count - 1) * FAST_STEP))
    while size + (count - 1) * int(size * FAST_STEP) < length:
        size += 1
    return size
