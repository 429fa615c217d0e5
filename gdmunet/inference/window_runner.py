"""The network on windows: batches of them, autocast, the mean over flips, fewer at a time where memory is short."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch

from gdmunet.device import mixed_precision
from gdmunet.device_memory import MemoryAdvice, memory_error
from gdmunet.geometry import triple
from gdmunet.inference.window_options import Network, WindowOptions
from gdmunet.out_of_memory import is_out_of_memory


class WindowRunner:
    """Runs a network on windows of one size.

    Parameters
    ----------
    network
        (B, C, z, y, x) -> (B, K, z, y, x) on `device`.
    options
        Options of the windows; its batch size is where the number of windows in one pass begins.
    device
        Device of network and windows.

    Attributes
    ----------
    batch_size
        Windows in one pass: halved whenever the device's memory does not hold a pass.
    """

    def __init__(self, network: Network, options: WindowOptions, device: torch.device) -> None:
        self.network, self.device, self.precision = network, device, options.precision
        axes = [axis + 2 for axis in options.mirror_axes]
        self.flips = [flip for n in range(len(axes) + 1) for flip in itertools.combinations(axes, n)]
        self.batch_size, self._pass_bytes = options.batch_size, options.pass_bytes
        self._batch = torch.empty(0)
        # Known after the first pass, over a copy: a network that keeps its input may see the condition itself.
        self._keeps_input = False

    def __call__(self, windows: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Windows (C, z, y, x) -> batches (B, K, z, y, x) float32 of their predictions, in order.

        A batch is used up when the next is asked for.

        Raises
        ------
        GdmError
            The device's memory does not hold the network's pass over one window.
        """
        done = 0
        while done < len(windows):
            chunk = windows[done : done + self.batch_size]
            predictions = self._try(chunk)
            # Outside the handler: what the failed pass held is let go before a smaller one is tried.
            if predictions is None:
                self._halve(chunk)
                continue
            yield predictions
            done += len(chunk)

    def _try(self, windows: Sequence[torch.Tensor]) -> torch.Tensor | None:
        try:
            alone = len(windows) == 1 and self.device.type == "cpu"
            if alone and self.batch_size == 1 and self._keeps_input:
                return self._mean_over_flips(windows[0][None])
            # Convolutions of one image may be much slower on a CPU than of two (`window_batches`), and round otherwise.
            batch = self._stacked([*windows, *windows] if alone and self.batch_size > 1 else windows)
            version = batch._version
            predictions = self._mean_over_flips(batch)[: len(windows)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        self._keeps_input = batch._version == version
        return predictions

    def _mean_over_flips(self, batch: torch.Tensor) -> torch.Tensor:
        with mixed_precision(self.device, self.precision):
            total = self._predict(batch, ())
            for flip in self.flips[1:]:
                total = total + self._predict(batch, flip)
        return total if len(self.flips) == 1 else total / len(self.flips)

    def _predict(self, batch: torch.Tensor, flip: tuple[int, ...]) -> torch.Tensor:
        if not flip:
            return self.network(batch).float()
        return self.network(batch.flip(flip)).float().flip(flip)

    def _stacked(self, windows: Sequence[torch.Tensor]) -> torch.Tensor:
        """The windows in one tensor, the same for every batch: fresh memory costs more than the copy."""
        if len(self._batch) < len(windows):
            self._batch = torch.empty(0)
            layout = torch.channels_last_3d if self.device.type == "cuda" else torch.contiguous_format
            with torch.inference_mode(False):  # so that its changes are counted
                self._batch = torch.empty((len(windows), *windows[0].shape), device=self.device, memory_format=layout)
        batch = self._batch[: len(windows)]
        for place, window in zip(batch, windows, strict=True):
            place.copy_(window)
        return batch

    def _halve(self, windows: Sequence[torch.Tensor]) -> None:
        self._batch = torch.empty(0)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch_size > 1:
            self.batch_size = max(1, min(self.batch_size, len(windows)) // 2)
            return
        shape = triple(windows[0].shape[1:])
        window = " x ".join(map(str, shape))
        planned = self._pass_bytes(shape) if self._pass_bytes else None
        advice = MemoryAdvice("predicting", planned, "end other programs on the device, or predict with -device cpu")
        raise memory_error(f"the memory of {self.device} does not hold one window of {window}", self.device, advice)
