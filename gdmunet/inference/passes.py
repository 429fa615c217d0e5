"""One network over a whole prepared case: in one pass over its windows, or in the several of a sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gdmunet.geometry import Shape
from gdmunet.inference.samplers import Surroundings, sample_volume
from gdmunet.inference.sliding_window import predict_tensor, predict_volume, predict_with_change
from gdmunet.inference.window_options import Network, WindowCount, WindowOptions
from gdmunet.preprocessing.preprocessor import PreparedCase, border_values
from gdmunet.sampler_spec import SamplerSpec

ProgressCallback = Callable[[WindowCount], None]


@dataclass(frozen=True)
class Passes:
    """Runs networks over one prepared case.

    Attributes
    ----------
    window
        Size of a window, voxels (z, y, x).
    windows
        Options of the windows; the background value is the target's outside the body, in network units.
    sampler, seed
        Sampler of the predictions, and the seed of its noise.
    """

    prepared: PreparedCase
    window: Shape
    windows: WindowOptions
    sampler: SamplerSpec
    seed: int

    def with_change(self, network: Network) -> tuple[np.ndarray, np.ndarray, WindowCount]:
        """Prediction at realism 0 and the change that realism 1 adds (z, y, x), by one pass of such a network."""
        counts: list[WindowCount] = []
        prepared, padding = self.prepared, border_values(self.prepared.properties)
        faithful, change = predict_with_change(
            network, prepared.condition, self.window, self.windows,
            mask=prepared.mask, padding=padding, progress=counts.append,
        )  # fmt: skip
        return faithful, change, counts[-1]

    def __call__(
        self, network: Network, draw: int = 0, progress: ProgressCallback | None = None
    ) -> tuple[np.ndarray, WindowCount]:
        """One draw (z, y, x) float32 of a network in network units; the windows of all its passes are counted."""
        finished = current = WindowCount()
        prepared, padding = self.prepared, border_values(self.prepared.properties)

        def note(count: WindowCount) -> None:
            nonlocal current
            current = count
            if progress is not None:
                progress(finished + count)

        if self.sampler.one_step:
            array = predict_volume(
                network, prepared.condition, self.window, self.windows,
                mask=prepared.mask, padding=padding, progress=note,
            )  # fmt: skip
            return array, current

        def predict(one: Network, stacked: torch.Tensor, around: Sequence[float], mask: np.ndarray) -> torch.Tensor:
            nonlocal finished
            estimate = predict_tensor(one, stacked, self.window, self.windows, mask=mask, padding=around, progress=note)
            finished = finished + current
            return estimate

        device = torch.device(self.windows.device)
        surroundings = Surroundings(padding, self.windows.background_value, self.window, device)
        seed = (self.seed, draw)
        array = sample_volume(self.sampler, network, predict, prepared.condition, prepared.mask, surroundings, seed)
        return array, finished
