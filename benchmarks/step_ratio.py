"""What a step of each trainer costs against fidelity's: processor time here, and operations at a GPU's patch size.

usage: python benchmarks/step_ratio.py [--trainers NAME ...] [--encoders mini mini-1] [--sizes constants planned]
           [--patch 48] [--rounds 5] [--counted 128] [--preset M]

Each trainer with an encoder has a row for each encoder and for each choice of its sizes: the trainers' constants, or
those that planning chooses for that patch and network.
The trainers' own steps run, with everything joined, one after the other in one process; of a trainer whose encoder
takes part in every second step, the mean of both. Medians of processor time, so that other work beside hardly counts.
Operations (multiplications and additions of convolutions and matrix products) are counted on tensors without data.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from memory_model import DATASET, configuration_of
from torch.utils.flop_counter import FlopCounterMode

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.plans import Configuration, NormalizationSpec
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.preprocessing.presets import PRESETS, budget_gb
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.draws import Draws
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.planned_sizes import PlanDrift, as_planned
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.training.trainers.trainer import Trainer

TRAINERS = (
    "FidelityTrainer",
    "GDMTrainer",
    "GDMTrainerTransport",
    "GDMTrainerTransportPaired",
    "PairedStatisticsTrainer",
)
UNITS = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), -80.0, 360.0), -1024.0, "CT")


@dataclass(frozen=True)
class Row:
    """What is measured: a trainer, the encoder beside it, and where its sizes come from."""

    trainer: str
    encoder: str
    sizes: str

    @property
    def title(self) -> str:
        return f"`{self.trainer}`" if self.encoder == "" else f"`{self.trainer}`, {self.encoder}, {self.sizes}"

    @property
    def kind(self) -> type[Trainer]:
        return find_trainer(self.trainer)


class Steps:
    """A trainer at its last iteration, and one batch full of body."""

    def __init__(self, row: Row, planned: Configuration, encoder: FrozenEncoder, device: torch.device) -> None:
        sized = as_planned(row.kind, planned)
        kind = type(row.trainer, (sized,), {"__module__": __name__, "precision": "float32"})
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

    @property
    def turns(self) -> int:
        """Steps of which one has the encoder."""
        return getattr(self.trainer, "feature_every", 1)

    def steps(self) -> None:
        """The last steps of the training, one of which has the encoder."""
        for left in range(self.turns, 0, -1):
            self.state.iteration = self.trainer.total_iterations - left
            begin_step(self.trainer, self.state, print)
            take_step(self.trainer, self.state, [self.batch])


def planned(row: Row, preset: str, edge: int, batch: int) -> tuple[Configuration, FrozenEncoder]:
    topology = plan_topology((1.0,) * 3, (edge,) * 3, PRESETS[preset].max_poolings)
    choice = choose_encoder(row.encoder or "mini", UNITS, 3, EncoderOptions(Path("encoders")))
    assert choice.encoder is not None
    whole = configuration_of(PRESETS[preset].network(topology, 1, 0), (edge,) * 3)
    whole = replace(whole, batch_size=batch, encoder=choice.spec)
    if row.sizes != "planned":
        return whole, choice.encoder
    budget = round(1e9 * budget_gb(PRESETS[preset], None))
    found = PlanDrift(row.kind)(whole, choice.encoder, "float32", budget)
    print(f"{row.title}, {preset}, {edge}^3: {found}", file=sys.stderr)
    return replace(whole, drift=found.spec), choice.encoder


def seconds(rows: list[Row], edge: int, rounds: int) -> dict[Row, float]:
    """Median processor time of a step, over rounds."""
    found: dict[Row, list[float]] = {row: [] for row in rows}
    steps = {row: Steps(row, *planned(row, "tiny", edge, 2), torch.device("cpu")) for row in rows}
    for number in range(rounds + 1):
        for row, one in steps.items():
            start = time.process_time()
            one.steps()
            if number:  # the first warms up
                found[row].append((time.process_time() - start) / one.turns)
    return {row: statistics.median(values) for row, values in found.items()}


def operations(row: Row, preset: str, edge: int) -> float:
    """Operations of one step, in the mean."""
    meta = torch.device("meta")
    configuration, encoder = planned(row, preset, edge, 2)
    with torch.random.fork_rng(devices=[]), LiveBytes("meta"):
        steps = Steps(row, configuration, encoder.to(meta), meta)
        steps.state.scaler = torch.amp.GradScaler("meta", enabled=False)
        with FlopCounterMode(display=False) as counter:
            steps.steps()
    return float(counter.get_total_flops()) / steps.turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS))
    parser.add_argument("--encoders", nargs="+", default=["mini"])
    parser.add_argument("--sizes", nargs="+", default=["constants", "planned"], choices=["constants", "planned"])
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counted", type=int, default=128)
    parser.add_argument("--preset", default="M", choices=sorted(PRESETS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fidelity = Row("FidelityTrainer", "", "")
    named = [name for name in dict.fromkeys(arguments.trainers) if name != fidelity.trainer]
    choices = itertools.product(named, arguments.encoders, arguments.sizes)
    rows = [fidelity, *(Row(*choice) for choice in choices)]
    counted = {row: operations(row, arguments.preset, arguments.counted) for row in rows}
    measured = seconds(rows, arguments.patch, arguments.rounds)
    time_of, work_of = f"tiny, {arguments.patch}^3, batch 2: s", f"{arguments.preset}, {arguments.counted}^3: TFLOP"
    print(f"| trainer | {time_of} | over fidelity's | {work_of} | over fidelity's |")
    print("|" + " --- |" * 5)
    for row in rows:
        cells = [f"{measured[row]:.2f}", f"{measured[row] / measured[fidelity]:.2f}"]
        cells += [f"{counted[row] / 1e12:.2f}", f"{counted[row] / counted[fidelity]:.2f}"]
        print(f"| {row.title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
