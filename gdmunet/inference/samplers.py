"""Drawing a prediction in several passes: Euler, Heun and bridges, on whole volumes or on patches.

The state moves from a source (time 0) to the prediction (time 1) along x_t = (1 - t) source + t target, plus the noise
of a Brownian bridge where there is one. At every time the network estimates the target itself, so that windows can be
blended and the outside of the body be filled as in one pass; the velocity is (estimate - x_t) / (1 - t).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from gdmunet.checkpoint import SamplerSpec
from gdmunet.composition import compose, compose_array
from gdmunet.errors import GdmError
from gdmunet.geometry import Shape
from gdmunet.inference.window_options import Network
from gdmunet.networks import stepwise_input
from gdmunet.quantities import counted

Array = TypeVar("Array", np.ndarray, torch.Tensor)

# (network, condition and state (C + 1, z, y, x), padding of each channel, mask (z, y, x)) -> (z, y, x)
PredictWindows = Callable[[Network, np.ndarray, Sequence[float], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Surroundings:
    """The surroundings of a volume, and the size of a window.

    Attributes
    ----------
    padding
        Value of each condition channel beyond the volume.
    background
        The target outside the body, network units: there the path is known, and followed exactly.
    window
        Size of a window in voxels; a smaller volume is grown to it, so that the state beyond it is what it was in
        training.
    """

    padding: Sequence[float]
    background: float
    window: Shape


@dataclass(frozen=True)
class TimedNetwork:
    """A network that takes a state, at one time: (B, C + 1, ...) condition and state -> (B, 1, ...)."""

    network: Network
    time: float

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Estimate the target."""
        time = batch.new_full((len(batch),), self.time)
        return self.network(stepwise_input(batch[:, :-1], batch[:, -1:], time))


def draw_sample(
    spec: SamplerSpec, estimate: Callable[[Array, float], Array], source: Array, noise: Callable[[], Array]
) -> Array:
    """Follow the path from `source` to the prediction, in steps of equal length.

    Parameters
    ----------
    estimate
        Function (state, time) -> the expected target given both; it may not change the state.
    source
        State at time 0; kept as it is.
    noise
        Function that draws a standard normal field of its shape.

    Notes
    -----
    Euler and Heun on the ordinary differential equation of rectified flow (Liu et al., arXiv 2209.03003); Heun's last
    step is Euler's, because the velocity has no value at time 1. The bridge's steps are those of I2SB (Liu et al.,
    arXiv 2302.05872, equation 4) on the clock in which its noise is constant; without its noise a step is Euler's.
    """
    state = source
    times = [k / spec.steps for k in range(spec.steps + 1)]
    for now, after in itertools.pairwise(times):
        clean = estimate(state, now)
        share = (after - now) / (1 - now)
        moved = state + share * (clean - state)
        if spec.name == "heun" and after < 1:
            velocity = (clean - state) / (1 - now)
            moved = state + 0.5 * (after - now) * (velocity + (estimate(moved, after) - moved) / (1 - after))
        if spec.name == "bridge_stochastic" and after < 1:
            moved = moved + spec.noise * math.sqrt(share * (1 - after)) * noise()
        state = moved
    return state


def sample_volume(
    spec: SamplerSpec,
    network: Network,
    predict: PredictWindows,
    condition: np.ndarray,
    mask: np.ndarray,
    surroundings: Surroundings,
    seed: Sequence[int],
) -> np.ndarray:
    """One draw for a whole volume.

    Every step predicts the whole volume window by window and blends the windows before it moves the state, and all
    windows see the same field of noise: there is nothing that could differ between neighbours, and so no seam.

    Parameters
    ----------
    network
        Network that takes a state: (B, C + 2, *window) -> (B, 1, *window).
    predict
        Function that predicts a volume by windows.
    condition, mask
        (C, z, y, x) in network units and body (z, y, x).
    seed
        Seed of the noise: the same volume and seed give the same draw.

    Returns
    -------
    prediction
        (z, y, x) float32.
    """
    padding, background = surroundings.padding, surroundings.background
    inside = _place_in(mask.shape, surroundings.window)
    grown = np.pad(mask, inside.around)
    channels = [np.pad(c, inside.around, constant_values=v) for c, v in zip(condition, padding, strict=True)]
    stacked = np.stack([*channels, np.zeros(grown.shape)], dtype=np.float32)
    generator = np.random.default_rng(list(seed))

    def noise() -> np.ndarray:
        return generator.standard_normal(grown.shape, dtype=np.float32)

    def estimate(state: np.ndarray, time: float) -> np.ndarray:
        stacked[-1] = state
        clean = predict(TimedNetwork(network, time), stacked, (*padding, background), grown)
        return compose_array(clean, grown, background)

    source = noise() if spec.source_channel is None else stacked[spec.source_channel].copy()
    return draw_sample(spec, estimate, source, noise)[inside.place]


def sample_patches(
    sampler: SamplerSpec,
    network: Network,
    condition: torch.Tensor,
    mask: torch.Tensor,
    background: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """One draw for every patch: condition (B, C, ...) and body mask (B, 1, ...) -> (B, 1, ...) float32.

    `generator` lives on the CPU, so that every device draws the same. A sampler of one step is one pass.
    """
    if sampler.one_step:
        return network(condition).float()

    def noise() -> torch.Tensor:
        return torch.randn(mask.shape, generator=generator).to(condition.device)

    def estimate(state: torch.Tensor, time: float) -> torch.Tensor:
        clean = TimedNetwork(network, time)(torch.cat([condition, state], dim=1)).float()
        return compose(clean, mask, background)

    channel = sampler.source_channel
    return draw_sample(sampler, estimate, noise() if channel is None else condition[:, channel : channel + 1], noise)


def with_steps(sampler: SamplerSpec, steps: int | None) -> SamplerSpec:
    """The sampler with another number of steps; None: its own."""
    if steps is None:
        return sampler
    if sampler.one_step:
        raise GdmError(
            "the model predicts in one step",
            found=f"{counted(steps, 'step')} asked for",
            remedy="omit --steps: it is for models that predict in several steps (FlowMatchingTrainer)",
        )
    return replace(sampler, steps=steps)


def check_samples(sampler: SamplerSpec, samples: int) -> None:
    """Refuse several draws where all would be the same."""
    if samples < 1:
        raise GdmError("a prediction needs at least one sample", found=samples)
    if samples > 1 and not sampler.random:
        raise GdmError(
            "the model draws no noise, so all samples would be the same",
            found=f"{counted(samples, 'sample')} of {sampler.name}",
            expected="a model trained by FlowMatchingTrainer from noise, or by BridgeTrainer with noise",
            remedy="omit --samples",
        )


@dataclass(frozen=True)
class _Placed:
    """Voxels to add before and after every axis, and where the volume then lies."""

    around: tuple[tuple[int, int], ...]
    place: tuple[slice, ...]


def _place_in(shape: Sequence[int], window: Sequence[int]) -> _Placed:
    missing = [max(0, size - length) for size, length in zip(window, shape, strict=True)]
    around = tuple((n // 2, n - n // 2) for n in missing)
    return _Placed(around, tuple(slice(low, low + n) for (low, _), n in zip(around, shape, strict=True)))
