"""Training on a GPU against the same on a CPU: one step of every trainer, float16, no memory, nccl."""

import dataclasses
import socket
from pathlib import Path

import pytest
import torch
from planned_networks import planned_network
from toy import toy_configuration
from toy_segmenter import fitting

from gdmunet.dataset import DatasetDescriptor
from gdmunet.device_memory import MemoryAdvice, explained_memory
from gdmunet.encoders.loading import load_encoder
from gdmunet.errors import GdmError
from gdmunet.paths import StartedProcess
from gdmunet.training import distributed
from gdmunet.training.draws import Draws
from gdmunet.training.loop.ema import weights_of
from gdmunet.training.loop.optimiser_step import add_gradients, begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.perceptual import PerceptualTrainer
from gdmunet.training.trainers.registry import named_trainers
from gdmunet.training.trainers.settings import declared_settings

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
SMALL = {
    "epochs": 2, "iterations_per_epoch": 4, "feature_start": 0.0, "bank_patches": 4, "tokens_per_patch": 32,
    "bank_tokens": 32, "minimum_tokens": 2,
}  # fmt: skip
# Their random weights are drawn on the device, whose numbers are its own.
DRAWN_THERE = ("GDMTrainerFreshEncoder", "PairedStatisticsTrainerFreshEncoder")


def batch(device) -> Batch:
    draws = torch.Generator().manual_seed(7)
    condition = torch.randn(2, 1, 16, 16, generator=draws)
    target = condition.tanh() + 0.1 * torch.randn(condition.shape, generator=draws)
    return Batch(condition, target, torch.ones_like(target), ("case",) * 2).to(device)


class Training:
    """A trainer and its state on a planned network of three stages in 2D, on a device, without folders."""

    def __init__(self, kind, device, precision="float32") -> None:
        wanted = {name: value for name, value in SMALL.items() if name in declared_settings(kind)}
        if not getattr(kind, "bank_patches", 1) or kind.__name__ == "GDMTrainerNoDrift":
            wanted = {name: value for name, value in wanted.items() if name not in ("bank_patches", "feature_start")}
        if "faithful_rate" in declared_settings(kind):
            wanted["faithful_rate"] = 0.1  # joined from the start, its faithful part would never be trained
        kind = type(kind.__name__, (kind,), {"__module__": __name__, **wanted, "precision": precision})
        configuration = dataclasses.replace(toy_configuration("2d"), network=planned_network(patch=(16, 16)))
        configuration = fitting(kind, configuration)
        dataset = DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", 1)
        self.device = device
        self.trainer = kind(configuration, dataset, device, lambda *asked: load_encoder(*asked, cache=Path("none")))
        self.state = TrainingState.fresh(self.trainer)

    def begin(self) -> None:
        begin_step(self.trainer, self.state, print)
        if self.trainer.preview() is not None:
            self.trainer.see(batch(self.device), Draws.seeded(0, self.device))

    def step(self) -> dict[str, float]:
        self.begin()
        report = take_step(self.trainer, self.state, [batch(self.device)])
        self.state.iteration += 1
        return report

    def gradient(self) -> torch.Tensor:
        """Of all weights in one row, on the CPU."""
        self.begin()
        self.state.network.train()
        add_gradients(self.trainer, batch(self.device))
        slopes = [p.grad for p in self.state.network.parameters() if p.grad is not None]
        return torch.cat([slope.flatten() for slope in slopes]).cpu()

    def weights(self) -> torch.Tensor:
        return torch.cat([value.flatten().float().cpu() for value in weights_of(self.state.network).values()])


@pytest.fixture
def draws_of_the_host(monkeypatch):
    """Both devices draw the same numbers: those of the host."""

    def seeded(seed, device):
        del device
        host = torch.Generator().manual_seed(seed)
        return Draws(host, host)

    monkeypatch.setattr(Draws, "seeded", staticmethod(seeded))


@pytest.mark.usefixtures("draws_of_the_host")
@pytest.mark.parametrize("kind", named_trainers().values(), ids=lambda kind: kind.__name__)
def test_a_step_of_every_trainer_is_that_of_a_cpu(kind, gpu):
    there = Training(kind, gpu)
    if kind.__name__ not in DRAWN_THERE:
        found, wanted = there.gradient(), Training(kind, CPU).gradient()
        assert (found - wanted).norm() <= 0.02 * wanted.norm()
        there = Training(kind, gpu)
    before = there.weights()
    report = there.step()
    assert all(torch.tensor(value).isfinite() for value in report.values())
    assert not torch.equal(there.weights(), before)


@pytest.mark.parametrize("kind", [PerceptualTrainer, GDMTrainer])
def test_float16_starts_and_continues_with_the_encoder_joined(kind, gpu, tmp_path):
    training = Training(kind, gpu, "float16")
    # The first scale is a guess, and falls until nothing overflows.
    assert [training.step()["skipped"] for _ in range(6)][-1] == 0.0
    training.state.save(tmp_path / "resume.pt", training.trainer)
    other = Training(kind, gpu, "float16")
    other.state.load(tmp_path / "resume.pt", other.trainer)
    assert other.state.scaler.get_scale() == training.state.scaler.get_scale()
    assert other.step()["skipped"] == training.step()["skipped"] == 0.0
    torch.testing.assert_close(other.weights(), training.weights(), rtol=1e-3, atol=1e-5)


def test_running_out_of_memory_is_explained(gpu):
    advice = MemoryAdvice("training", 12 * 10**9, "plan for less memory")
    with pytest.raises(GdmError) as raised, explained_memory(gpu, lambda: advice):
        torch.empty(10**15, device=gpu)
    error = raised.value
    assert "ran out of memory while training" in error.problem
    assert " free of " in error.found
    assert error.expected == "12 GB as predicted, and a reserve"
    assert torch.ones(4, device=gpu).sum().item() == 4  # the device goes on


def test_one_process_takes_a_step_in_a_group(gpu):
    import torch.distributed as group
    from torch.nn.parallel import DistributedDataParallel

    with socket.create_server(("127.0.0.1", 0)) as free:
        place = StartedProcess("torchrun", 0, 1, 0, "127.0.0.1", free.getsockname()[1])
    with distributed.member(place, gpu.type) as device:
        value = torch.full((3,), 2.0, device=device)
        group.all_reduce(value)
        training = Training(GDMTrainer, device)
        training.state.called = DistributedDataParallel(training.state.network)
        report = training.step()
        assert group.get_backend() == ("nccl" if gpu.type == "cuda" else "gloo")
    assert value.tolist() == [2.0] * 3
    assert "cosine" in report
