"""Loss scaling of float16: the same step, before and after the encoder has joined, fresh and resumed."""

import dataclasses
from pathlib import Path

import pytest
import torch
from planned_networks import planned_network
from short_trainers import short
from toy import toy_configuration
from toy_segmenter import fitting

from gdmunet.dataset import DatasetDescriptor
from gdmunet.encoders.loading import load_encoder
from gdmunet.training.draws import Draws
from gdmunet.training.loop.ema import weights_of
from gdmunet.training.loop.optimiser_step import add_gradients, begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer
from gdmunet.training.trainers.perceptual import PerceptualTrainer
from gdmunet.training.trainers.registry import named_trainers

CPU = torch.device("cpu")
WITH_ENCODER = [kind for kind in named_trainers().values() if kind.uses_encoder]


# Relative error that half precision itself may make, of so small a network with random weights.
PRECISIONS = [("float32", 0), ("bfloat16", 0.7), ("float16", 0.3)]


class GDMByLevels(GDMTrainer):
    """Three objectives or more."""

    objectives = "levels"


def batch() -> Batch:
    draws = torch.Generator().manual_seed(7)
    condition = torch.randn(2, 1, 16, 16, generator=draws)
    target = condition.tanh() + 0.1 * torch.randn(condition.shape, generator=draws)
    return Batch(condition, target, torch.ones_like(target), ("case",) * 2)


class Training:
    """A trainer and its state on a planned network in 2D, without folders; joins its encoder at step 4 of 8."""

    def __init__(self, kind, precision, **changes) -> None:
        kind = short(kind, precision=precision, **changes)
        network = planned_network(patch=(16, 16))
        configuration = fitting(kind, dataclasses.replace(toy_configuration("2d"), network=network))
        dataset = DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", 1)
        self.trainer = kind(configuration, dataset, CPU, lambda *asked: load_encoder(*asked, cache=Path("none")))
        self.state = TrainingState.fresh(self.trainer)
        assert self.state.scaler.is_enabled() == (precision == "float16")

    def begin(self) -> None:
        begin_step(self.trainer, self.state, print)
        asked = self.trainer.preview()
        if asked is not None:
            self.trainer.see(batch(), Draws.seeded(0, torch.device("cpu")))

    def step(self) -> dict[str, float]:
        self.begin()
        report = take_step(self.trainer, self.state, [batch()])
        self.state.iteration += 1
        return report

    def gradient(self) -> torch.Tensor:
        """Of all weights in one row, as the optimiser would see it."""
        self.begin()
        self.state.network.train()
        add_gradients(self.trainer, batch())
        self.state.scaler.unscale_(self.state.optimizer)
        slopes = [p.grad for p in self.state.network.parameters() if p.grad is not None]
        return torch.cat([slope.flatten() for slope in slopes])

    def resumed(self, folder, **changes) -> "Training":
        """Another training, from the saved state."""
        self.state.save(folder / "resume.pt", self.trainer)
        other = Training(type(self.trainer), self.trainer.precision, **changes)
        other.state.load(folder / "resume.pt", other.trainer)
        return other


@pytest.mark.parametrize("kind", WITH_ENCODER, ids=lambda kind: kind.__name__)
def test_every_trainer_with_an_encoder_starts_joined_in_float16(kind):
    # Of a trainer whose parts train in turns, the first part goes on: else it would never be trained.
    changes = {"feature_start": 0.0} | ({"faithful_rate": 0.1} if kind.trains_in_turns else {})
    training = Training(kind, "float16", **({} if kind.__name__.endswith("NoDrift") else changes))
    before = {name: value.clone() for name, value in weights_of(training.state.network).items()}
    # The first scale is a guess: 65536 is too much for the plain sum with the drift's gradient of unit size.
    skipped = [training.step()["skipped"] for _ in range(3)]
    assert skipped[-1] == 0.0
    assert any(not torch.equal(value, before[name]) for name, value in weights_of(training.state.network).items())


@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
@pytest.mark.parametrize("joined", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("kind", [PerceptualTrainer, DriftTrainer, GDMTrainer, GDMByLevels])
def test_the_unscaled_gradient_is_that_of_float32(kind, precision, tolerance, joined, resumed, tmp_path):
    join = {"feature_start": 0.0 if joined else 1.0}
    training = Training(kind, precision, **join)
    reference = Training(kind, "float32", **join)
    if resumed:
        training = training.resumed(tmp_path)
    if precision == "float16":
        training.state.scaler.scale(torch.ones(()))
        training.state.scaler.update(1024.0)  # one at which nothing overflows
    found, wanted = training.gradient(), reference.gradient()
    assert found.isfinite().all()
    assert (found - wanted).norm() <= tolerance * wanted.norm()


@pytest.mark.parametrize("kind", [PerceptualTrainer, GDMTrainer, GDMByLevels])
def test_the_loss_scale_alone_changes_no_gradient(kind):
    """With the float32 network and a scaler: what remains is round-off."""
    training, reference = (Training(kind, "float32", feature_start=0.0) for _ in range(2))
    training.state.scaler = torch.amp.GradScaler("cpu")
    torch.testing.assert_close(training.gradient(), reference.gradient(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("joined", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", [PerceptualTrainer, GDMTrainer])
def test_a_step_with_an_infinite_gradient_is_skipped_once_and_the_scale_falls(kind, joined):
    training = Training(kind, "float16", feature_start=0.0 if joined else 1.0)
    state, trainer = training.state, training.trainer
    training.step()
    parameter = next(iter(state.network.parameters()))
    overflow = parameter.register_hook(lambda slope: slope * float("inf"))
    scale, steps = state.scaler.get_scale(), state.average.steps
    own = dict(state.network.named_parameters())
    before, average = ({k: v.clone() for k, v in values.items()} for values in (own, state.average.state))
    report = training.step()
    overflow.remove()
    assert report["skipped"] == 1.0
    assert all(torch.tensor(value).isfinite() for value in report.values())
    assert "gradient_norm" not in report
    assert state.scaler.get_scale() == scale / 2
    assert state.average.steps == steps
    assert all(torch.equal(value, before[name]) for name, value in own.items())
    assert all(torch.equal(value, average[name]) for name, value in state.average.state.items())
    assert training.step()["skipped"] == 0.0
    assert state.average.steps == steps + 1
    assert trainer.step.iteration == 2


def test_the_encoder_joins_in_the_middle_of_a_float16_training():
    training = Training(GDMTrainer, "float16")
    reports = [training.step() for _ in range(6)]
    assert ["cosine" in report for report in reports] == [False] * 4 + [True] * 2
