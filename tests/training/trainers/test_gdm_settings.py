"""What settings change about coordination and drift, and what they must leave alone."""

import dataclasses

import pytest
import torch
from short_trainers import batch_for, gradients, in_step, loop_of, send_gradients, short, weights, without_norm

from gdmunet.errors import GdmError
from gdmunet.training.coordination.weightings import WeightingOptions
from gdmunet.training.drift.options import DriftOptions
from gdmunet.training.drift.sets import drift_of_sets
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers import forces
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.perceptual import PerceptualTrainer
from gdmunet.training.trainers.variants import GDMTrainerFreshEncoder


class Separable(PerceptualTrainer):
    """Every patch has losses of its own: what a larger batch must give is then known."""

    def feature_terms(self, batch, prediction):
        real = [level.values for level in self.feature_maps(batch, batch.target)]
        found = self.feature_maps(batch, prediction)
        return {f"l{i}": (a.values - b).square().mean() for i, (a, b) in enumerate(zip(found, real, strict=True))}


@pytest.mark.parametrize(
    ("weighting", "options"),
    [
        ("sum", {}),
        ("mgda", {"normalise": "l2", "per_sample": True}),
        ("pcgrad", {"normalise": "l2", "per_sample": True}),
        ("imtl_g", {"per_sample": True, "objectives": "levels"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_coordinated_gradients_accumulate_to_those_of_the_larger_batch(toy, weighting, options):
    """Weights for each patch, or weights that are constant, do not know how the patches were shared out."""
    found = []
    for parts in (1, 2):
        kind = short(Separable, feature_start=0.0, weighting=weighting, accumulation=parts, **options)
        loop = loop_of(without_norm(toy), kind)
        whole = batch_for(loop)
        # Full masks: a mean over body voxels would weigh the parts by their body.
        shares = zip(whole.condition.chunk(parts), whole.target.chunk(parts), strict=True)
        for condition, target in shares:
            part = Batch(condition, target, torch.ones_like(target), whole.identifiers)
            send_gradients(in_step(loop), part)
        found.append(gradients(loop))
    largest = max(float(gradient.abs().max()) for gradient in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * largest)


def test_every_level_has_a_term_however_little_body_a_batch_has(toy):
    """The average of the Gramian counts on as many gradients at every step."""
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0, objectives="levels", gramian_ema=0.9))
    batch = batch_for(loop)
    wanted = {f"loss_drift_{level.name}" for level in loop.trainer.levels}
    little = torch.zeros_like(batch.mask)
    little[:, :, 4:6, 4:6, 4:6] = 1  # cells at stride 2, none at stride 4
    for mask in (batch.mask, little, torch.zeros_like(little), batch.mask):
        part = dataclasses.replace(batch, mask=mask)
        trainer = in_step(loop)
        assert wanted <= {f"loss_{name}" for name in trainer.loss_terms(part, trainer.generate(part).prediction)}
        report = loop.train_step([part])
        reported = wanted & report.keys()
        # A zero in its place would read as a distribution that has arrived.
        assert reported == wanted if mask is batch.mask else reported < wanted
        assert all(report[name] > 0 for name in reported)


def test_settings_reach_the_drift_loss_and_the_coordination(toy, monkeypatch):
    numbers = {"sinkhorn_iterations": 5, "force_decay": 0.5, "force_floor": 0.3, "block_elements": 4096}
    seen = []

    def spy(samples, options, averages):
        seen.append(options)
        return drift_of_sets(samples, options, averages)

    monkeypatch.setattr(forces, "drift_of_sets", spy)
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0, weighting="cagrad", cagrad_radius=0.25, **numbers))
    loop.train_step([batch_for(loop)])
    assert seen
    assert all(getattr(options, name) == value for options in seen for name, value in numbers.items())
    assert loop.trainer.coordinator.options.radius == 0.25


def test_the_pure_functions_have_the_defaults_of_the_method():
    """An example with `drift_loss` alone shows what a trainer does, but for what is known of its own samples."""
    assert (
        dataclasses.replace(GDMTrainer.drift_options(GDMTrainer, across_ranks=False), mask_twins=False)
        == DriftOptions()
    )
    numbers = WeightingOptions()
    assert (GDMTrainer.adaptive_weight, GDMTrainer.cagrad_radius) == (numbers.beta, numbers.radius)


@pytest.mark.parametrize(
    "impossible",
    [
        {"sinkhorn_iterations": 0},
        {"force_decay": 7.0},
        {"force_floor": -1.0},
        {"temperatures": ()},
        {"field": "logkde", "drift_normalisation": "ema"},
        {"weighting": "cagrad", "cagrad_radius": 1.0},
        {"adaptive_weight": -1.0},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_impossible_numbers_are_refused_before_the_first_step(toy, impossible):
    """Not at 60 % of the training, where the drift joins."""
    with pytest.raises(GdmError, match=r"cannot take these numbers|cannot be normalised"):
        loop_of(toy, short(GDMTrainer, **impossible))


def test_the_fresh_encoder_is_another_at_every_step_and_the_same_when_a_step_is_repeated(toy):
    loop = loop_of(toy, short(GDMTrainerFreshEncoder, feature_start=0.0))
    batch, seen = batch_for(loop), []
    for iteration in (0, 1, 0):
        loop.state.iteration = iteration
        trainer, before = in_step(loop), torch.random.get_rng_state()
        trainer.feature_terms(batch, trainer.generate(batch).prediction)
        assert torch.equal(torch.random.get_rng_state(), before)
        seen.append({name: value.clone() for name, value in trainer.encoder.state_dict().items()})
    first, other, again = seen
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())
    assert not any(parameter.requires_grad for parameter in loop.trainer.encoder.parameters())


def test_pairing_by_index_makes_every_place_a_problem(toy, monkeypatch):
    shapes = []

    def spy(samples, options, averages):
        shapes.extend((one.generated.shape, one.positives.shape, one.negatives) for one in samples.values())
        return drift_of_sets(samples, options, averages)

    monkeypatch.setattr(forces, "drift_of_sets", spy)
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0, pairing="index", bank_patches=0))
    batch = batch_for(loop)
    before = weights(loop)
    report = loop.train_step([dataclasses.replace(batch, mask=torch.ones_like(batch.mask))])
    assert report["norm_features"] > 0
    assert any(not torch.equal(value, before[name]) for name, value in weights(loop).items())
    patches = len(batch.mask)
    assert all(x[1] == y[1] == patches and x[0] == y[0] and extra is None for x, y, extra in shapes)
    assert max(x[0] for x, _, _ in shapes) == loop.trainer.tokens_per_patch


def test_pairing_by_index_knows_no_bank(toy):
    with pytest.raises(GdmError, match="set bank_patches=0"):
        loop_of(toy, short(GDMTrainer, pairing="index"))
