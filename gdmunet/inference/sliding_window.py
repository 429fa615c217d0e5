"""Predict a whole volume window by window; any callable on tensors serves as the network.

Windows are taken in the order of axis 0, and rows that no later window reaches are divided by their weights: beside the
condition and the output there is one float32 slab as thick as a window.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gdmunet.device import Precision, exact_float32, mixed_precision
from gdmunet.errors import GdmError
from gdmunet.geometry import Shape, triple
from gdmunet.inference.windows import WindowGrid, check_step_size, importance_map, plan_windows

# (B, C, z, y, x) -> (B, 1, z, y, x)
Network = Callable[[torch.Tensor], torch.Tensor]

# Thin windows (2D slices) of several starts share a batch, as long as they lie within this many voxels.
_LAYER_THICKNESS = 16


@dataclass(frozen=True)
class WindowCount:
    """Progress of a volume: all windows, those that went through the network, those without body (filled)."""

    total: int = 0
    predicted: int = 0
    skipped: int = 0

    def __add__(self, other: WindowCount) -> WindowCount:
        return WindowCount(self.total + other.total, self.predicted + other.predicted, self.skipped + other.skipped)


@dataclass(frozen=True)
class WindowOptions:
    """Options for predicting the windows of a volume.

    Attributes
    ----------
    step_size
        Distance of neighbouring windows as a share of the window.
    background_value
        Value that fills a window without a body voxel.
    device
        Device of the network.
    batch_size
        Windows in one pass.
    mirror_axes
        Axes 0..2 to flip: the mean over all combinations of flips is taken.
    precision
        Precision of the network (autocast); sums are always float32.
    skip_empty
        Whether windows without a body voxel are filled instead of running the network on them.
    offset
        Voxels by which the grid of windows is shifted, see `plan_windows`.
    """

    step_size: float = 0.5
    background_value: float = 0.0
    device: str | torch.device = "cpu"
    batch_size: int = 1
    mirror_axes: tuple[int, ...] = ()
    precision: Precision = "float32"
    skip_empty: bool = True
    offset: Shape = (0, 0, 0)

    def __post_init__(self) -> None:
        check_step_size(self.step_size)
        if self.batch_size < 1 or not set(self.mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"batch_size {self.batch_size}, mirror_axes {self.mirror_axes}")


@exact_float32()
def predict_volume(
    network: Network,
    condition: np.ndarray | torch.Tensor,
    window_size: Shape,
    options: WindowOptions = WindowOptions(),
    *,
    mask: np.ndarray | None = None,
    padding: Sequence[float] | None = None,
    out: np.ndarray | None = None,
    progress: Callable[[WindowCount], None] | None = None,
) -> np.ndarray:
    """Mean of the windows' predictions, weighted by `importance_map`.

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
        The network gave values that are not numbers.
    """
    mask = mask if options.skip_empty else None
    condition = condition.detach().cpu().numpy() if isinstance(condition, torch.Tensor) else condition
    shape = triple(condition.shape[1:])
    grid = plan_windows(shape, window_size, options.step_size, options.offset)
    sums = _SlabSums(shape, importance_map(window_size), _new_output(shape, out))
    runner = _Runner(network, options)
    tell, predicted, skipped = progress or (lambda _: None), 0, 0
    for layer in _layers(grid):
        sums.finish_before(min(layer[0], shape[0]))
        corners = list(itertools.product(layer, grid.starts[1], grid.starts[2]))
        full = [corner for corner in corners if mask is None or mask[_inside(corner, window_size, shape)].any()]
        skipped += len(corners) - len(full)
        for corner in set(corners).difference(full):
            sums.add(corner, options.background_value)
        for batch in _batches(full, options.batch_size):
            windows = np.stack([_cut(condition, corner, window_size, padding) for corner in batch])
            for corner, prediction in zip(batch, runner(windows), strict=True):
                sums.add(corner, prediction)
            predicted += len(batch)
            tell(WindowCount(grid.count, predicted, skipped))
    sums.finish_before(shape[0])
    tell(WindowCount(grid.count, predicted, skipped))
    return sums.output


def _batches(corners: list[Shape], size: int) -> list[list[Shape]]:
    return [corners[first : first + size] for first in range(0, len(corners), size)]


class _Runner:
    """The network on a batch of windows: transfer, autocast, mean over flips."""

    def __init__(self, network: Network, options: WindowOptions) -> None:
        self.network, self.device, self.precision = network, torch.device(options.device), options.precision
        axes = [axis + 2 for axis in options.mirror_axes]
        self.flips = [flip for n in range(len(axes) + 1) for flip in itertools.combinations(axes, n)]

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """(B, C, z, y, x) -> (B, z, y, x), float32."""
        with torch.inference_mode(), mixed_precision(self.device, self.precision):
            batch = torch.from_numpy(windows).to(self.device)
            total = self._predict(batch, ())
            for flip in self.flips[1:]:
                total = total + self._predict(batch, flip)
        return (total / len(self.flips))[:, 0].cpu().numpy()

    def _predict(self, batch: torch.Tensor, flip: tuple[int, ...]) -> torch.Tensor:
        if not flip:
            return self.network(batch).float()
        return self.network(batch.flip(flip)).float().flip(flip)


class _SlabSums:
    """Weighted sums of windows, in the output itself, and their weights for the rows still in work."""

    def __init__(self, shape: Shape, importance: np.ndarray, output: np.ndarray) -> None:
        self.shape, self.importance, self.output = shape, importance, output
        thickness = min(max(importance.shape[0], _LAYER_THICKNESS), shape[0])
        self.weights = np.zeros((thickness, *shape[1:]), dtype=np.float32)
        self.first = 0  # the row of the volume that is row 0 of `weights`

    def add(self, corner: Shape, prediction: np.ndarray | float) -> None:
        """Add a window (or a constant) at `corner`; what lies beyond the volume is dropped."""
        window = triple(self.importance.shape)
        target = _inside(corner, window, self.shape)
        source = tuple(slice(t.start - c, t.stop - c) for t, c in zip(target, corner, strict=True))
        importance = self.importance[source]
        self.output[target] += importance * (prediction[source] if isinstance(prediction, np.ndarray) else prediction)
        rows = slice(target[0].start - self.first, target[0].stop - self.first)
        self.weights[(rows, *target[1:])] += importance

    def finish_before(self, row: int) -> None:
        """Divide the rows below `row` by their weights; they are complete."""
        done = max(0, row - self.first)
        for i in range(min(done, len(self.weights))):
            weights, values = self.weights[i], self.output[self.first + i]
            if not weights.min() > 0:
                raise RuntimeError(f"row {self.first + i}: the windows leave voxels uncovered")
            values /= weights
            if not np.isfinite(values).all():
                raise GdmError(
                    "the network gave values that are not numbers",
                    found=f"{int((~np.isfinite(values)).sum())} of {values.size} voxels in row {self.first + i}",
                    expected="finite values",
                    remedy="predict in float32, or choose another checkpoint",
                )
        if done > len(self.weights):
            raise RuntimeError(f"rows {self.first + len(self.weights)} to {row}: the windows leave voxels uncovered")
        # Row by row, because an overlapping copy of the whole slab would need a second one.
        for i in range(done, len(self.weights)):
            self.weights[i - done] = self.weights[i]
        self.weights[len(self.weights) - done :] = 0
        self.first += done


def _layers(grid: WindowGrid) -> Iterator[tuple[int, ...]]:
    """Starts along axis 0 whose windows are in work together: one, or several where windows are thin slices."""
    reach = max(0, _LAYER_THICKNESS - grid.window[0])
    layer: list[int] = []
    for start in grid.starts[0]:
        if layer and start - layer[0] > reach:
            yield tuple(layer)
            layer = []
        layer.append(start)
    yield tuple(layer)


def _new_output(shape: Shape, out: np.ndarray | None) -> np.ndarray:
    if out is None:
        return np.zeros(shape, dtype=np.float32)
    if out.shape != shape or out.dtype != np.float32:
        raise ValueError(f"out: {out.dtype} {out.shape}, expected float32 {shape}")
    out[...] = 0
    return out


def _inside(corner: Shape, window: Shape, shape: Shape) -> tuple[slice, slice, slice]:
    z, y, x = (slice(max(c, 0), min(c + w, n)) for c, w, n in zip(corner, window, shape, strict=True))
    return z, y, x


def _cut(condition: np.ndarray, corner: Shape, window: Shape, padding: Sequence[float] | None) -> np.ndarray:
    """A window (C, *window) as float32."""
    inside = _inside(corner, window, triple(condition.shape[1:]))
    part = np.asarray(condition[(slice(None), *inside)], dtype=np.float32)
    around = [(i.start - c, c + w - i.stop) for i, c, w in zip(inside, corner, window, strict=True)]
    if not any(low or high for low, high in around):
        return part
    if padding is None:
        return np.pad(part, [(0, 0), *around], mode="edge")
    channels = [np.pad(c, around, constant_values=value) for c, value in zip(part, padding, strict=True)]
    return np.stack(channels)
