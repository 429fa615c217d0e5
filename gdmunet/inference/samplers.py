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

from gdmunet.composition import compose
from gdmunet.device_memory import device_memory
from gdmunet.errors import GdmError
from gdmunet.geometry import Shape
from gdmunet.inference.window_options import Network
from gdmunet.networks import stepwise_input
from gdmunet.quantities import counted
from gdmunet.sampler_spec import SamplerSpec
from gdmunet.seeds import step_seed

Array = TypeVar("Array", np.ndarray, torch.Tensor)

# (network, condition and state (C + 1, z, y, x), padding of each channel, mask (z, y, x)) -> (z, y, x)
PredictWindows = Callable[[Network, torch.Tensor, Sequence[float], np.ndarray], torch.Tensor]

# Volumes that a draw holds beside the channels of its condition: state, estimate, two of a step, noise, body, sums.
_VOLUMES_OF_A_DRAW = 7


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
    device
        Device of the network.
    """

    padding: Sequence[float]
    background: float
    window: Shape
    device: torch.device = torch.device("cpu")  # noqa: RUF009


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
    seed: tuple[int, int],
) -> np.ndarray:
    """One draw for a whole volume.

    Every step predicts the whole volume window by window and blends the windows before it moves the state, and all
    windows see the same field of noise: there is nothing that could differ between neighbours, and so no seam. State
    and noise stay on the device if its memory holds them.

    Parameters
    ----------
    network
        Network that takes a state: (B, C + 2, *window) -> (B, 1, *window).
    predict
        Function that predicts a volume by windows.
    condition, mask
        (C, z, y, x) in network units and body (z, y, x).
    seed
        Seed of the noise and number of the draw: the same volume, seed and kind of device give the same draw.

    Returns
    -------
    prediction
        (z, y, x) float32.
    """
    padding, background = surroundings.padding, surroundings.background
    inside = _place_in(mask.shape, surroundings.window)
    grown = np.pad(mask, inside.around)
    place = _place_of_state(grown.size * (len(condition) + _VOLUMES_OF_A_DRAW), surroundings.device)
    stacked = torch.zeros((len(condition) + 1, *grown.shape), device=place)
    for channel, values, value in zip(stacked, condition, padding, strict=False):
        channel.fill_(value)
        channel[inside.place] = torch.as_tensor(np.asarray(values, dtype=np.float32), device=place)
    body = torch.from_numpy(grown).to(place)
    draw = normal_fields(grown.shape, seed, surroundings.device)

    def noise() -> torch.Tensor:
        return draw().to(place)

    def estimate(state: torch.Tensor, time: float) -> torch.Tensor:
        stacked[-1] = state
        clean = predict(TimedNetwork(network, time), stacked, (*padding, background), grown)
        return torch.where(body, clean, background)

    source = noise() if spec.source_channel is None else stacked[spec.source_channel].clone()
    drawn = draw_sample(spec, estimate, source, noise)[inside.place].cpu().numpy()
    return np.ascontiguousarray(drawn)


def normal_fields(shape: Sequence[int], seed: tuple[int, int], device: torch.device) -> Callable[[], torch.Tensor]:
    """Function that draws one standard normal field after the other, on the device.

    On a CPU the numbers are NumPy's, as ever; on a GPU its own generator's, which needs no upload.
    """
    if device.type == "cpu":
        numbers = np.random.default_rng(list(seed))
        return lambda: torch.from_numpy(numbers.standard_normal(shape, dtype=np.float32))
    generator = torch.Generator(device).manual_seed(step_seed(*seed))
    return lambda: torch.randn(tuple(shape), generator=generator, device=device)


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
        raise GdmError("a prediction needs at least one sample", found=samples, remedy="give 1 sample or more")
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


def _place_of_state(values: int, device: torch.device) -> torch.device:
    """The device, or the CPU if the device's memory does not hold this number of float32 values and leave a reserve."""
    fits = device.type == "cpu" or 4 * values <= device_memory(device).usable
    return device if fits else torch.device("cpu")


def _place_in(shape: Sequence[int], window: Sequence[int]) -> _Placed:
    missing = [max(0, size - length) for size, length in zip(window, shape, strict=True)]
    around = tuple((n // 2, n - n // 2) for n in missing)
    return _Placed(around, tuple(slice(low, low + n) for (low, _), n in zip(around, shape, strict=True)))
