"""What a step of each trainer costs against fidelity's: processor time here, and operations at a GPU's patch size.

usage: python benchmarks/step_ratio.py [--trainers NAME ...] [--patch 48] [--rounds 5] [--counted 128] [--preset M]

The trainers' own steps run, with everything joined, one after the other in one process; medians of processor time, so
that other work beside hardly counts. Operations (multiplications and additions of convolutions and matrix products)
are counted on tensors without data.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from memory_model import DATASET, configuration_of
from torch.utils.flop_counter import FlopCounterMode

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.plans import Configuration, NormalizationSpec
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.draws import Draws
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.registry import find_trainer

TRAINERS = (
    "FidelityTrainer",
    "GDMTrainer",
    "GDMTrainerTransport",
    "GDMTrainerTransportPaired",
    "PairedStatisticsTrainer",
)
UNITS = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), -80.0, 360.0), -1024.0, "CT")


class Steps:
    """A trainer at its last iteration, and one batch full of body."""

    def __init__(self, name: str, planned: Configuration, encoder: FrozenEncoder, device: torch.device) -> None:
        kind = type(name, (find_trainer(name),), {"__module__": __name__, "precision": "float32"})
        self.trainer = kind(planned, DATASET, device, lambda *_: encoder)
        with device:
            self.state = TrainingState.fresh(self.trainer)
        self.state.iteration = self.trainer.total_iterations - 1
        shape = (planned.batch_size, 1, *planned.patch_size)
        images = [torch.rand(shape, device=device) for _ in range(2)]
        self.batch = Batch(images[0], images[1], torch.ones(shape, device=device), ("case",) * planned.batch_size)
        begin_step(self.trainer, self.state, print)
        for _ in range(4):
            if self.trainer.preview() is not None:
                self.trainer.see(self.batch, Draws.seeded(0, device))

    def step(self) -> None:
        begin_step(self.trainer, self.state, print)
        take_step(self.trainer, self.state, [self.batch])


def planned(preset: str, edge: int, batch: int) -> tuple[Configuration, FrozenEncoder]:
    topology = plan_topology((1.0,) * 3, (edge,) * 3, PRESETS[preset].max_poolings)
    choice = choose_encoder("mini", UNITS, 3, EncoderOptions(Path("encoders")))
    assert choice.encoder is not None
    whole = configuration_of(PRESETS[preset].network(topology, 1, 0), (edge,) * 3)
    return replace(whole, batch_size=batch, encoder=choice.spec), choice.encoder


def seconds(names: list[str], edge: int, rounds: int) -> dict[str, float]:
    """Median processor time of a step, by trainer."""
    found: dict[str, list[float]] = {name: [] for name in names}
    steps = {name: Steps(name, *planned("tiny", edge, 2), torch.device("cpu")) for name in names}
    for number in range(rounds + 1):
        for name, one in steps.items():
            start = time.process_time()
            one.step()
            if number:  # the first warms up
                found[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in found.items()}


def operations(name: str, preset: str, edge: int) -> float:
    """Operations of one step."""
    meta = torch.device("meta")
    configuration, encoder = planned(preset, edge, 2)
    with torch.random.fork_rng(devices=[]), LiveBytes("meta"):
        steps = Steps(name, configuration, encoder.to(meta), meta)
        steps.state.scaler = torch.amp.GradScaler("meta", enabled=False)
        with FlopCounterMode(display=False) as counter:
            steps.step()
    return float(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS))
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counted", type=int, default=128)
    parser.add_argument("--preset", default="M", choices=sorted(PRESETS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = list(dict.fromkeys(["FidelityTrainer", *arguments.trainers]))
    counted = {name: operations(name, arguments.preset, arguments.counted) for name in names}
    measured = seconds(names, arguments.patch, arguments.rounds)
    time_of, work_of = f"tiny, {arguments.patch}^3, batch 2: s", f"{arguments.preset}, {arguments.counted}^3: TFLOP"
    print(f"| trainer | {time_of} | over fidelity's | {work_of} | over fidelity's |")
    print("|" + " --- |" * 5)
    for name in names:
        cells = [f"{measured[name]:.2f}", f"{measured[name] / measured['FidelityTrainer']:.2f}"]
        cells += [f"{counted[name] / 1e12:.2f}", f"{counted[name] / counted['FidelityTrainer']:.2f}"]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
