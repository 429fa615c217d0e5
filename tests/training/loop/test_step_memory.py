"""The predicted peak is that of a real step, whatever the trainer does in it."""

import dataclasses

import numpy as np
import pytest
import torch

from gdmunet.dataset import DatasetDescriptor
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.mini import random_mini
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import Configuration, EncoderSpec, MemoryFootprint, NormalizationSpec
from gdmunet.preprocessing.cuda_autocast import as_on_cuda
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.preprocessing.planned_step import PlannedStep, largest_memory
from gdmunet.training.draws import Draws
from gdmunet.training.drift import kernels
from gdmunet.training.drift.options import DriftOptions
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.patches.augmentation import UNCHANGED, Augmentation
from gdmunet.training.patches.batch import Batch
from gdmunet.training.patches.crops import CropLabel, Crops
from gdmunet.training.patches.intensity import mr_intensity
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.transport import GDMTrainerTransport, GDMTrainerTransportPaired

UNIT = NormalizationSpec("affine", (-1.0, 1.0))


def small_network(block="plain", dimensions=3, features=(8, 16, 32), residual_channel=None):
    stages = len(features)
    return NetworkSpec(
        in_channels=2,
        out_channels=1,
        features=features,
        strides=((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1),
        kernel_sizes=((3,) * dimensions,) * stages,
        encoder_blocks=(2,) * stages,
        decoder_blocks=(1,) * (stages - 1),
        block=block,
        norm="instance",
        residual_channel=residual_channel,
    )


def planned(network, patch, batch_size, precision="bfloat16"):
    configuration = Configuration(
        name="3d_fullres",
        transpose=(0, 1, 2),
        spacing=(1.0,) * len(patch),
        median_shape=(1, 1, 1),
        patch_size=patch,
        batch_size=batch_size,
        condition_normalization=(UNIT,) * network.in_channels,
        target_normalization=UNIT,
        background=0.0,
        order=3,
        network=network,
        predicted_memory=MemoryFootprint(0, 0, 0, 0, 0),
    )
    return PlannedStep(configuration, DatasetDescriptor({"0": "MR", "1": "MR"}, "CT", ".nii.gz", 1), precision)


def measured_peak(kind, step):
    """Peak live bytes of the second step on real tensors, with CUDA's mixed precision and form of the optimiser."""
    configuration = step.configuration
    with LiveBytes() as live:
        trainer = kind(configuration, step.dataset, torch.device("cpu"), lambda *_: step.encoder)
        state = TrainingState.fresh(trainer)
        state.iteration = trainer.total_iterations - 1
        if step.encoder is not None:
            live.track(step.encoder.state_dict())
        for group in state.optimizer.param_groups:
            group["foreach"] = True
        shape = (configuration.batch_size, 1, *configuration.patch_size)
        condition, target = torch.randn(shape[0], configuration.network.in_channels, *shape[2:]), torch.randn(shape)
        batch = Batch(condition, target, torch.ones(shape), ("case",) * shape[0])
        for _ in range(2):
            state.optimizer.zero_grad(set_to_none=True)
            live.restart()
            begun = begin_step(trainer, state, print)
            trainer.step = dataclasses.replace(begun, autocast=lambda: as_on_cuda(step.precision))
            if trainer.preview() is not None:
                trainer.see(batch, Draws.seeded(0, torch.device("cpu")))
                live.restart()
            take_step(trainer, state, [batch])
        return live.peak


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("network", "patch", "batch_size"),
    [
        (small_network(), (16, 16, 24), 2),
        (small_network("residual", residual_channel=1), (24, 16, 16), 3),
        (small_network(dimensions=2), (64, 48), 4),
        (small_network(features=(8, 64, 256)), (16, 16, 16), 2),
    ],
    ids=["plain", "residual", "2d", "optimizer-bound"],
)
def test_predicted_peak_is_that_of_a_real_step(network, patch, batch_size, precision):
    if network.block == "residual" and precision != "float32":
        pytest.skip("the CPU has no average pooling in half precision")
    step = planned(network, patch, batch_size, precision)
    kind = type("Exact", (FidelityTrainer,), {"__module__": __name__, "precision": precision})
    assert StepMemory(kind)(step).total == pytest.approx(measured_peak(kind, step), rel=0.02)


@pytest.mark.parametrize("method", [GDMTrainer, GDMTrainerTransport, GDMTrainerTransportPaired])
@pytest.mark.parametrize(("patch", "batch_size"), [((128, 96), 6), ((32, 32, 32), 4)], ids=["scaled", "by itself"])
def test_the_methods_default_count_is_the_peak_of_a_real_step(method, patch, batch_size, monkeypatch):
    """With all its defaults: the count that plans are made with."""
    # A CPU takes distances in small blocks, for its cache; what is counted is a GPU.
    monkeypatch.setattr(kernels, "CACHED_ELEMENTS", DriftOptions.block_elements)
    encoder = random_mini(VolumeUnits(UNIT, 0.0, "CT"), len(patch)).freeze()
    step = planned(small_network(dimensions=len(patch)), patch, batch_size, "float32")
    spec = EncoderSpec("mini", "0" * 64, len(patch), None, encoder.levels, "not stated")
    configuration = dataclasses.replace(step.configuration, encoder=spec)
    step = dataclasses.replace(step, configuration=configuration, encoder=encoder)
    kind = type("Exact", (method,), {"__module__": __name__, "precision": "float32"})
    predicted, measured = StepMemory(kind)(step), measured_peak(kind, step)
    assert predicted.total == pytest.approx(measured, rel=0.1)
    # Bank and encoder could not be left out.
    assert predicted.bank + predicted.encoder > 0.15 * measured


def test_levels_behind_the_last_one_that_is_used_are_not_counted():
    encoder = random_mini(VolumeUnits(UNIT, 0.0, "CT"), 3).freeze()
    step = planned(small_network(), (32, 32, 32), 2, "float32")
    spec = EncoderSpec("mini", "0" * 64, 3, None, encoder.levels, "not stated")
    configuration = dataclasses.replace(step.configuration, encoder=spec)
    step = dataclasses.replace(step, configuration=configuration, encoder=encoder)
    fine, every = (type(f"To{n}", (GDMTrainer,), {"__module__": __name__, "drift_stride": n}) for n in (4, 64))
    fewer, all_levels, again = (StepMemory(kind)(step) for kind in (fine, every, fine))
    # Stages at strides 8 and 16 hold 94 % of the weights; a count leaves the planned encoder whole.
    dropped = sum(stage.nbytes for stage in [*encoder.network.stages[2:].parameters()])
    assert dropped > 0.8 * sum(weight.nbytes for weight in encoder.parameters())
    assert all_levels.encoder > fewer.encoder + dropped
    assert fewer == again
    assert len(encoder.levels) == 5


class GreedyTrainer(FidelityTrainer):
    """A user's own loss, which keeps a large temporary."""

    copies: int = 40

    def loss_terms(self, batch, prediction):
        many = torch.cat([prediction * number for number in range(self.copies)]).sin()
        return {**super().loss_terms(batch, prediction), "greed": many.mean()}


def test_a_users_own_loss_counts():
    step = planned(small_network(), (16, 16, 24), 2, "float32")
    greedy, plain = StepMemory(GreedyTrainer)(step), StepMemory(FidelityTrainer)(step)
    assert greedy.activations > plain.activations + GreedyTrainer.copies * 4 * 2 * 16 * 16 * 24
    assert greedy.total == pytest.approx(measured_peak(GreedyTrainer, step), rel=0.02)
    assert largest_memory([StepMemory(FidelityTrainer), StepMemory(GreedyTrainer)])(step) == greedy


class MaskedTrainer(FidelityTrainer):
    """Asks for values: a number, and the places of a mask."""

    def loss_terms(self, batch, prediction):
        share = batch.mask.mean().item()
        return {"body": share * (prediction - batch.target)[batch.mask > 0.5].square().mean()}


def test_a_loss_that_asks_for_values_is_counted():
    step = planned(small_network(), (16, 16, 24), 2, "float32")
    assert StepMemory(MaskedTrainer)(step).total == pytest.approx(measured_peak(MaskedTrainer, step), rel=0.05)


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_small_counts_give_the_count_of_every_size(block):
    network = small_network(block)
    linear, direct = StepMemory(FidelityTrainer), StepMemory(FidelityTrainer, linear=False)
    for patch, batch_size in [((16, 24, 40), 2), ((64, 64, 64), 5)]:
        step = planned(network, patch, batch_size)
        assert linear(step).total == pytest.approx(direct(step).total, rel=2e-3)


def test_parts_are_those_of_the_parameters_and_more_is_counted_for_more():
    network, count = small_network(), StepMemory(FidelityTrainer)
    parameters = list(build_network(network).parameters())
    expected = 4 * sum(p.numel() for p in parameters)
    # Heads of coarse stages have no gradient, and so no moments.
    learning = 4 * sum(p.numel() for p in parameters if p.requires_grad)
    base = count(planned(network, (32, 32, 32), 2))
    assert (base.parameters, base.gradients, base.ema) == (expected, learning, expected)
    assert 0.999 * 2 * learning < base.optimizer <= 2 * expected
    assert count(planned(network, (32, 32, 32), 3)).total > base.total
    assert count(planned(network, (32, 32, 40), 2)).total > base.total
    assert count(planned(network, (32, 32, 32), 2, "float32")).total > 1.3 * base.total


def test_a_patch_beyond_this_machine_is_counted_and_no_random_number_is_drawn():
    """300 GB of feature maps: only a count that allocates nothing can give a number."""
    before = torch.get_rng_state()
    assert StepMemory(FidelityTrainer)(planned(small_network(), (1024, 1024, 1024), 2, "float32")).total > 3e11
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [FidelityTrainer, GreedyTrainer])
def test_several_processes_hold_their_gradients_in_buckets(kind):
    """As large as the gradients of one process, from the first step on."""
    step, count = planned(small_network(), (32, 32, 32), 2), StepMemory(kind)
    alone, shared = count(step), count(dataclasses.replace(step, processes=2))
    assert shared.buckets == shared.gradients > 0
    assert (alone.buckets, shared.total) == (0, alone.total + alone.gradients)


@pytest.mark.parametrize(("patch", "preset"), [((128, 128, 128), (32, 64, 128)), ((32, 32, 32), (16, 32, 64))])
def test_augmentation_needs_less_than_the_step_that_follows(patch, preset):
    """Every patch rotated, every transform applied, the last batch still there: it fits beside what stays."""
    step = planned(small_network(features=preset), patch, 2)
    everything = tuple(dataclasses.replace(transform, probability=1.0) for transform in mr_intensity())
    augmentation = Augmentation(intensity=everything)
    seeds = [np.random.SeedSequence(seed) for seed in range(2)]
    changes = [augmentation.draw(seed, 3, move=True) for seed in seeds]
    crops = Crops.empty([CropLabel("", one.crop_shape(patch), one) for one in changes], 3, patch)
    with LiveBytes("meta") as live:
        last = Crops.empty([CropLabel("", patch, UNCHANGED)] * 2, 3, patch).to(torch.device("meta")).finish(None)
        batch = crops.to(torch.device("meta")).finish(augmentation)
    assert batch.condition.shape == last.condition.shape == (2, 2, *patch)
    activations = StepMemory(FidelityTrainer)(step).activations
    assert live.peak < (0.25 if min(patch) > 64 else 0.75) * activations
