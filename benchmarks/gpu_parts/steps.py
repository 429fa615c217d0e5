"""Part 2: steps of the presets' networks in several forms, and the memory that they take against the count."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from memory_model import DATASET, Training, configuration_of, random_batch

from gdmunet.plans import Configuration
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gpu_parts.setting import Setting

BATCH = 2


@dataclass(frozen=True)
class Form:
    """One way to take the same step; each but the first changes one thing."""

    name: str
    benchmark: bool = False
    channels_last: bool = False
    fused: bool = True
    compiled: bool = False


FORMS = (
    Form("as trained"),
    Form("cudnn.benchmark", benchmark=True),
    Form("channels_last_3d", channels_last=True),
    Form("channels_last_3d and cudnn.benchmark", benchmark=True, channels_last=True),
    Form("AdamW by foreach", fused=False),
    # Last, since each compilation takes a minute or more.
    Form("compiled", compiled=True),
)


def run(setting: Setting) -> None:
    """A row for each preset, edge and form."""
    edges = (16,) if setting.dry else (128, 160)
    presets = ("tiny",) if setting.dry else ("plain", "M")
    for form, preset, edge in itertools.product(FORMS, presets, edges):
        if form.compiled and (edge != edges[0] or setting.dry):
            continue
        setting.attempt(f"{preset} {edge}^3, {form.name}", lambda row=(preset, edge, form): measure(setting, *row))


def measure(setting: Setting, preset: str, edge: int, form: Form) -> dict[str, object]:
    """Milliseconds of a step, and its memory."""
    torch.manual_seed(0)
    configuration = planned(preset, edge)
    training, batch = made(configuration, setting, form)
    setting.restart_peak()
    with cudnn(form.benchmark):
        seconds = setting.seconds(lambda: training.step(batch), setting.pick(5, 1), setting.pick(2, 1))
    precision = FidelityTrainer.precision_on(setting.device)
    predicted = StepMemory(FidelityTrainer)(PlannedStep(configuration, DATASET, precision)).total
    return {
        "preset": preset, "edge": edge, "form": form.name, "batch": BATCH, "precision": precision, "ms": 1000 * seconds,
        "predicted_mb": predicted / 1e6, **setting.peak_mb(),
    }  # fmt: skip


def planned(preset: str, edge: int) -> Configuration:
    """The network that planning makes for that patch."""
    kind = PRESETS[preset]  # type: ignore[index]
    topology = plan_topology((1.0,) * 3, (edge,) * 3, kind.max_poolings)
    network = kind.network(topology, 1, 0)
    return replace(configuration_of(network, topology.patch_size), batch_size=BATCH)


def made(configuration: Configuration, setting: Setting, form: Form) -> tuple[Training, Batch]:
    """A training and its batch in that form."""
    kind = FidelityTrainer.derive({"compile_network": "true"} if form.compiled else {})
    trainer = kind(configuration, DATASET, setting.device)
    training = Training(trainer, TrainingState.fresh(trainer))
    batch = random_batch(configuration.network, configuration.patch_size, BATCH, setting.device)
    if form.channels_last:
        training.state.network.to(memory_format=torch.channels_last_3d)
        batch = replace(batch, condition=batch.condition.contiguous(memory_format=torch.channels_last_3d))
    if not form.fused:
        groups = training.state.optimizer.param_groups
        groups = [{"params": group["params"], "weight_decay": group["weight_decay"]} for group in groups]
        training.state.optimizer = torch.optim.AdamW(groups, lr=trainer.learning_rate, foreach=True)
    return training, batch


@contextmanager
def cudnn(benchmark: bool) -> Iterator[None]:
    """Inside, cuDNN tries out its algorithms, or does not."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, benchmark
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
