"""Predict a whole volume window by window; any callable on tensors serves as the network.

Windows are taken in the order of axis 0. All work on voxels happens on the network's device: there lie a few slabs as
thick as a window, and rows that no later window reaches go to the output. On the CPU the rows of the condition are
views, and the sums are the output itself: beside both there is one float32 slab as thick as a window.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gdmunet.device import exact_float32
from gdmunet.device_memory import MemoryAdvice, device_memory, memory_error
from gdmunet.geometry import Shape, triple
from gdmunet.inference.blending import Blend, Place
from gdmunet.inference.condition_rows import ConditionRows
from gdmunet.inference.window_options import Network, WindowCount, WindowOptions
from gdmunet.inference.window_runner import WindowRunner
from gdmunet.inference.windows import WindowGrid, inside, plan_windows

# Thin windows (2D slices) of several starts share a batch, as long as they have at most this many rows.
_LAYER_THICKNESS = 16


def predict_volume(
    network: Network,
    condition: np.ndarray | torch.Tensor,
    window_size: Shape,
    options: WindowOptions | None = None,
    *,
    mask: np.ndarray | None = None,
    padding: Sequence[float] | None = None,
    out: np.ndarray | None = None,
    progress: Callable[[WindowCount], None] | None = None,
) -> np.ndarray:
    """Mean of the windows' predictions, weighted by `window_weight` along every axis.

    Parameters
    ----------
    network
        (B, C, *window_size) -> (B, 1, *window_size), both on the options' device.
    condition
        (C, z, y, x) in network units.
    mask
        Body (z, y, x); None: no window is empty.
    padding
        Value of each channel beyond the volume, where a window reaches out of it; None: its border values go on.
    out
        Float32 array (z, y, x) to write into, such as a memory map.
    progress
        Function that is called after every batch.

    Returns
    -------
    (z, y, x) float32.

    Raises
    ------
    GdmError
        The network gave values that are not numbers, or the device's memory does not hold one window.
    """
    shape = triple(condition.shape[1:])
    if out is None:
        out = np.empty(shape, dtype=np.float32)
    if out.shape != shape or out.dtype != np.float32:
        raise ValueError(f"out: {out.dtype} {out.shape}, expected float32 {shape}")
    surroundings = _Surroundings(mask, padding, progress)
    windows = _Windows(network, condition, window_size, options or WindowOptions(), surroundings)
    windows.predict_into([torch.from_numpy(out)])
    return out


def predict_with_change(
    network: Network,
    condition: np.ndarray,
    window_size: Shape,
    options: WindowOptions,
    *,
    mask: np.ndarray | None = None,
    padding: Sequence[float] | None = None,
    progress: Callable[[WindowCount], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`predict_volume` of a network that gives two channels: a prediction, and a change of it that is 0 where it fills.

    Every window goes through the network once for both.
    """
    outputs = [np.empty(condition.shape[1:], dtype=np.float32) for _ in range(2)]
    windows = _Windows(network, condition, window_size, options, _Surroundings(mask, padding, progress))
    windows.predict_into([torch.from_numpy(out) for out in outputs], fills=(options.background_value, 0.0))
    return outputs[0], outputs[1]


def predict_tensor(
    network: Network,
    condition: torch.Tensor,
    window_size: Shape,
    options: WindowOptions,
    *,
    mask: np.ndarray | None = None,
    padding: Sequence[float] | None = None,
    progress: Callable[[WindowCount], None] | None = None,
) -> torch.Tensor:
    """`predict_volume` of a condition (C, z, y, x) on the device, which the prediction (z, y, x) does not leave."""
    output = torch.empty(condition.shape[1:], device=condition.device)
    surroundings = _Surroundings(mask, padding, progress)
    _Windows(network, condition, window_size, options, surroundings).predict_into([output])
    return output


@dataclass(frozen=True)
class _Surroundings:
    """Body (z, y, x), value of each channel beyond the volume, and who is told of each batch; each may be None."""

    mask: np.ndarray | None
    padding: Sequence[float] | None
    progress: Callable[[WindowCount], None] | None


class _Windows:
    """The windows of one volume on their way through a network."""

    def __init__(
        self,
        network: Network,
        condition: np.ndarray | torch.Tensor,
        window_size: Shape,
        options: WindowOptions,
        surroundings: _Surroundings,
    ) -> None:
        self.device = torch.empty(0, device=options.device).device  # with its number, as tensors have it
        self.grid = plan_windows(triple(condition.shape[1:]), window_size, options.step_size, options.offset)
        self.rows = ConditionRows(condition, self.grid, surroundings.padding, self.device)
        self.runner = WindowRunner(network, options, self.device)
        self.background, self.progress = options.background_value, surroundings.progress
        self.mask = surroundings.mask if options.skip_empty else None
        self.predicted = self.skipped = 0
        self.outputs = 1
        self.layers = _layers(self.grid)

    def predict_into(self, outputs: Sequence[torch.Tensor], fills: Sequence[float] | None = None) -> None:
        """Blend all windows, each channel of the network in an output of its own; `fills`: values without body."""
        self.outputs = len(outputs)
        self._check_memory()
        layers, fills = self.layers, fills or [self.background] * len(outputs)
        blends = [
            Blend(self.grid, output, fill, self.device, max(map(len, layers)))
            for output, fill in zip(outputs, fills, strict=True)
        ]
        ends = [max(0, self.grid.starts[0][layer[0]]) for layer in layers[1:]] + [self.grid.shape[0]]
        with torch.inference_mode(), _one_size(self.device), exact_float32():
            for layer, end in zip(layers, ends, strict=True):
                full, filled = _with_body(self.grid, layer, self.mask)
                for blend in blends:
                    blend.begin(layer, filled)
                self._predict_layer(layer, full, blends)
                self.skipped += len(filled)
                for blend in blends:
                    blend.end(layer, end)
            for blend in blends:
                blend.close()
        self._tell()

    def slab_bytes(self) -> int:
        """Most bytes on the device beside the network's pass, where condition and output lie elsewhere.

        A layer's slab; the sums of its rows, once more while they grow; rows of the condition, once more while they
        roll on, and once where they are padded.
        """
        _, height, width = self.grid.shape
        low, high = zip(*self.rows.around, strict=True)
        padded = (height + low[0] + high[0]) * (width + low[1] + high[1])
        reach = self.grid.starts[0][self.layers[0][-1]] - self.grid.starts[0][0] + self.grid.window[0]
        slab = max(map(len, self.layers)) * min(self.grid.window[0], self.grid.shape[0])
        channels = len(self.rows.condition)
        rolling = height * width * (self.outputs * (slab + 2 * reach) + 2 * channels * reach)
        return 4 * (rolling + (channels * reach * padded if self.rows.pads else 0))

    def _check_memory(self) -> None:
        if not self.rows.moves:
            return
        memory, needed = device_memory(self.device), self.slab_bytes()
        if needed > memory.free:
            plane = " x ".join(map(str, self.grid.shape[1:]))
            advice = MemoryAdvice("predicting", needed, "end other programs on the device, or predict with -device cpu")
            problem = f"the memory of {self.device} does not hold the slabs of a volume with planes of {plane}"
            raise memory_error(problem, self.device, advice, memory)

    def _predict_layer(self, layer: Sequence[int], full: list[Place], blends: Sequence[Blend]) -> None:
        if not full:
            return
        starts, depth = self.grid.starts, self.grid.window[0]
        top = starts[0][layer[0]]
        seen = self.rows.between(top, starts[0][layer[-1]] + depth)
        windows = [self.rows.window(seen, starts[0][z] - top, starts[1][y], starts[2][x]) for z, y, x in full]
        places = iter(full)
        for predictions in self.runner(windows):
            for channels in predictions:
                place = next(places)
                for blend, prediction in zip(blends, channels, strict=True):
                    blend.add(place, prediction)
            self.predicted += len(predictions)
            self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(WindowCount(self.grid.count, self.predicted, self.skipped))


def _layers(grid: WindowGrid) -> list[tuple[int, ...]]:
    """Starts along axis 0 (indices) whose windows are in work together: one, or several where windows are thin."""
    together = max(1, _LAYER_THICKNESS // grid.window[0])
    count = len(grid.starts[0])
    return [tuple(range(first, min(first + together, count))) for first in range(0, count, together)]


def _with_body(grid: WindowGrid, layer: Sequence[int], mask: np.ndarray | None) -> tuple[list[Place], list[Place]]:
    """The windows of a layer with a body voxel, and those without."""
    full: list[Place] = []
    filled: list[Place] = []
    for z in layer:
        rows = inside((grid.starts[0][z], 0, 0), grid.window, grid.shape)[0]
        columns = None if mask is None else np.asarray(mask[rows].any(axis=0))
        for y, x in itertools.product(range(len(grid.starts[1])), range(len(grid.starts[2]))):
            _, *place = inside((0, grid.starts[1][y], grid.starts[2][x]), grid.window, grid.shape)
            (full if columns is None or columns[tuple(place)].any() else filled).append((z, y, x))
    return full, filled


@contextlib.contextmanager
def _one_size(device: torch.device) -> Iterator[None]:
    """Windows have one size, so a GPU may try out its fastest algorithms for it."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        benchmark=not torch.backends.cudnn.deterministic,
        deterministic=torch.backends.cudnn.deterministic,
        allow_tf32=torch.backends.cudnn.allow_tf32,
    ):
        yield
