"""Predicted against measured peak memory of a training step, over six networks and patches.

    python benchmarks/memory_model.py              # a GPU if there is one, else the CPU
    python benchmarks/memory_model.py --device cpu

It runs the fidelity trainer's own step. On a CPU, in float32, the measured value is the peak of live tensor bytes, and
torch's profiler, which sees every allocation, is an independent witness. On a GPU, in mixed precision, it is
``torch.cuda.max_memory_allocated``. The goal is a difference of at most 10 %. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from gdmunet.dataset import DatasetDescriptor
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import Configuration, MemoryFootprint, NormalizationSpec
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.preprocessing.presets import PRESETS, Preset
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.fidelity import FidelityTrainer

GOAL = 0.1
DATASET = DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", 1)


@dataclass(frozen=True)
class Combination:
    """One row: patches for the GPU, and small ones with narrow networks for the CPU."""

    name: str
    preset: str
    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    small_patch: tuple[int, ...]
    batch_size: int
    channels: int = 1
    residual_channel: int | None = None


COMBINATIONS = (
    Combination("plain, isotropic", "plain", (1, 1, 1), (128, 128, 128), (48, 48, 48), 2),
    Combination("plain, anisotropic", "plain", (5, 1, 1), (20, 256, 256), (8, 96, 96), 2),
    Combination("plain, 2D", "plain", (1, 1), (512, 512), (256, 256), 12),
    Combination("residual, isotropic", "M", (1, 1, 1), (112, 128, 128), (40, 48, 48), 2, 1, 0),
    Combination("residual, anisotropic", "M", (3, 1, 1), (40, 192, 192), (16, 80, 80), 2, 2),
    Combination("residual, 2D", "M", (1, 1), (512, 384), (256, 192), 8, 1, 0),
)


def main() -> int:
    """Run all rows; exit status 1 where a row misses the goal."""
    parser = argparse.ArgumentParser(description="Predicted against measured peak memory of a training step.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(parser.parse_args().device)
    on_gpu = device.type == "cuda"
    precision = FidelityTrainer.precision_on(device)
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    print(f"{name}, {precision}, torch {torch.__version__}\n")
    witness = "" if on_gpu else " profiler MB | difference |"
    print(f"| network | patch | batch | predicted MB | measured MB | difference |{witness}")
    print("|---|---|---|---|---|---|" + ("" if on_gpu else "---|---|"))
    worst = 0.0
    for combination in COMBINATIONS:
        spec, patch = network_of(combination, small=not on_gpu)
        configuration = replace(configuration_of(spec, patch), batch_size=combination.batch_size)
        predicted = StepMemory(FidelityTrainer)(PlannedStep(configuration, DATASET, precision)).total
        measured = measure(spec, patch, combination.batch_size, device)
        cells = [combination.name, " x ".join(map(str, patch)), str(combination.batch_size), f"{predicted / 1e6:.0f}"]
        for value in measured:
            difference = predicted / value - 1
            worst = max(worst, abs(difference))
            cells += [f"{value / 1e6:.0f}", f"{100 * difference:+.1f} %"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nLargest difference {100 * worst:.1f} %, goal {100 * GOAL:.0f} %.")
    return 0 if worst <= GOAL else 1


def network_of(combination: Combination, small: bool) -> tuple[NetworkSpec, tuple[int, ...]]:
    """The row's network and padded patch; `small` has a quarter of the width."""
    preset: Preset = PRESETS[combination.preset]  # type: ignore[index]
    topology = plan_topology(combination.spacing, combination.small_patch if small else combination.patch)
    spec = preset.network(topology, combination.channels, combination.residual_channel)
    if small:
        spec = NetworkSpec(**{**vars(spec), "features": tuple(width // 4 for width in spec.features)})
    return spec, topology.patch_size


def measure(spec: NetworkSpec, patch: tuple[int, ...], batch_size: int, device: torch.device) -> list[int]:
    """Peak bytes of the steady state: allocator on a GPU; live tensors, then the profiler's count, on a CPU."""
    if device.type == "cuda":
        training, batch = Training.of(spec, patch, device), random_batch(spec, patch, batch_size, device)
        training.step(batch)
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        training.step(batch)
        return [torch.cuda.max_memory_allocated(device)]
    with LiveBytes() as live:
        training, batch = Training.of(spec, patch, device), random_batch(spec, patch, batch_size, device)
        training.step(batch)
        live.restart()
        training.step(batch)
        peak = live.peak
    # Gradients of the step before are dropped at its start, so they are not alive at the peak.
    training.state.optimizer.zero_grad(set_to_none=True)
    return [peak, resident_bytes(training.state, batch) + profiled_peak(lambda: training.step(batch))]


def profiled_peak(step: Callable[[], Any]) -> int:
    """Most bytes that `step` has allocated beyond what was there before it, as torch's profiler records them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def resident_bytes(state: TrainingState, batch: Batch) -> int:
    """Parameters, moments, EMA and batch."""
    moments = [value for of_weight in state.optimizer.state.values() for value in of_weight.values()]
    tensors = [*state.network.parameters(), *moments, *state.average.state.values()]
    return sum(tensor.nbytes for tensor in [*tensors, batch.condition, batch.target, batch.mask])


@dataclass(frozen=True)
class Training:
    """A trainer and its state, yet no folders and no data."""

    trainer: FidelityTrainer
    state: TrainingState

    @classmethod
    def of(cls, spec: NetworkSpec, patch: tuple[int, ...], device: torch.device) -> Training:
        """With network, optimiser and EMA."""
        trainer = FidelityTrainer(configuration_of(spec, patch), DATASET, device)
        return cls(trainer, TrainingState.fresh(trainer))

    def step(self, batch: Batch) -> None:
        """One optimiser step, as the loop takes it."""
        begin_step(self.trainer, self.state, print)
        take_step(self.trainer, self.state, [batch])


def configuration_of(spec: NetworkSpec, patch: tuple[int, ...]) -> Configuration:
    """As little of a configuration as a step needs."""
    unit = NormalizationSpec("affine", (-1.0, 1.0))
    return Configuration(
        name="benchmark",
        transpose=(0, 1, 2),
        spacing=(1.0,) * len(patch),
        median_shape=(1, 1, 1),
        patch_size=patch,
        batch_size=1,
        condition_normalization=(unit,) * spec.in_channels,
        target_normalization=unit,
        background=0.0,
        order=3,
        network=spec,
        predicted_memory=MemoryFootprint(0, 0, 0, 0, 0),
    )


def random_batch(spec: NetworkSpec, patch: tuple[int, ...], batch_size: int, device: torch.device) -> Batch:
    """Noise in the shapes of a training batch."""
    condition = torch.randn(batch_size, spec.in_channels, *patch, device=device)
    target = torch.randn(batch_size, 1, *patch, device=device)
    return Batch(condition, target, torch.ones_like(target), ("noise",) * batch_size)


if __name__ == "__main__":
    torch.manual_seed(0)
    raise SystemExit(main())
