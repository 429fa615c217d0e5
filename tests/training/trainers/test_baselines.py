"""The rivals: they learn, resume exactly, draw what their checkpoints say, and their memory is that of a real step."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from short_trainers import batch_for, end_after, in_step, loop_of, planned_step, weights
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

from gdmunet.checkpoint import load_network, load_weights
from gdmunet.errors import GdmError
from gdmunet.inference.trained_models import load_model
from gdmunet.network_spec import NetworkSpec
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.sampler_spec import SamplerSpec
from gdmunet.serialization import from_json, save_json, to_json
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.adversarial import AdversarialTrainer
from gdmunet.training.trainers.bridge import BridgeTrainer
from gdmunet.training.trainers.discriminator import (
    DiscriminatorSpec,
    PatchDiscriminator,
    SpectralNorm,
    body_mean,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from gdmunet.training.trainers.flow_matching import FlowMatchingTrainer
from gdmunet.training.trainers.step import as_terms
from gdmunet.training.trainers.stepwise import stepwise_spec

RIVALS = [AdversarialTrainer, FlowMatchingTrainer, BridgeTrainer]
STEPWISE = [FlowMatchingTrainer, BridgeTrainer]


def short(kind, **changes):
    settings = {"epochs": 2, "iterations_per_epoch": 4, "learning_rate": 2e-3, "validation_patches": 2}
    settings |= {"discriminator_width": 8} if issubclass(kind, AdversarialTrainer) else {"steps": 2}
    return type(f"Short{kind.__name__}", (kind,), {"__module__": __name__, **settings, **changes})


@pytest.mark.parametrize("kind", RIVALS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("configuration", [pytest.param("3d_fullres", marks=pytest.mark.slow), "2d"])
def test_training_lowers_the_validation_error(toy, kind, configuration):
    loop = loop_of(toy, short(kind, epochs=5, iterations_per_epoch=10, learning_rate=4e-3), configuration)
    loop.train(0)
    errors = [row["validation_mae"] for row in loop.journal.rows()]
    assert errors[-1] < 0.75 * errors[0]


@pytest.mark.parametrize("kind", RIVALS, ids=lambda k: k.__name__)
def test_a_run_continues_bit_for_bit(toy, kind):
    kind = short(kind)
    whole = loop_of(toy, kind)
    whole.train(0)

    end_after(loop_of(toy, type("Stopped", (kind,), {"__module__": __name__})), 4)
    continued = loop_of(toy, type("Stopped", (kind,), {"__module__": __name__}))
    continued.resume()
    continued.train(0)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())
    if kind.__base__ is AdversarialTrainer:
        theirs, ours = (loop.trainer.discriminator.state_dict() for loop in (whole, continued))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


# ---- adversarial ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"adversarial_loss": "least_squares"}, {"r1_weight": 1.0}, {"feature_matching_weight": 1.0}],
    ids=["hinge", "least_squares", "r1", "feature_matching"],
)
def test_both_networks_take_their_own_step(toy, options):
    loop = loop_of(toy, short(AdversarialTrainer, **options))
    batch, before = batch_for(loop), weights(loop)
    judge = {name: value.clone() for name, value in loop.trainer.discriminator.named_parameters()}
    report = loop.train_step([batch])
    assert {"loss_fidelity", "loss_adversarial", "loss_discriminator"} <= report.keys()
    assert ("loss_features" in report) == ("feature_matching_weight" in options)
    assert any(not torch.equal(value, before[name]) for name, value in weights(loop).items())
    for name, value in loop.trainer.discriminator.named_parameters():
        # Within hinge's margin the pulls of real and fake images on the last bias cancel.
        assert name == "head.bias" or not torch.equal(value, judge[name]), name
        assert not value.requires_grad


def test_the_generators_step_leaves_no_gradient_in_the_discriminator(toy):
    loop = loop_of(toy, short(AdversarialTrainer))
    batch = batch_for(loop)
    trainer = in_step(loop)
    prediction = trainer.generate(batch).prediction
    terms = as_terms(trainer.loss_terms(batch, prediction))
    of_its_own_step = [p.grad.clone() for p in loop.trainer.discriminator.parameters()]
    trainer.combine(terms, prediction)
    for parameter, grad in zip(trainer.discriminator.parameters(), of_its_own_step, strict=True):
        assert torch.equal(parameter.grad, grad)


def test_the_discriminator_learns_to_tell_blurred_from_real(toy):
    class Frozen(short(AdversarialTrainer, discriminator_learning_rate=2e-3)):
        learning_rate = 1e-9

    loop = loop_of(toy, Frozen)
    batch = batch_for(loop)
    losses = [loop.train_step([batch])["loss_discriminator"] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_what_lies_outside_the_body_is_hidden_from_the_discriminator(toy):
    loop = loop_of(toy, short(AdversarialTrainer))
    batch = batch_for(loop)
    other = torch.where(batch.mask > 0, batch.target, batch.target + 5)
    assert torch.equal(loop.trainer._composed(batch, batch.target), loop.trainer._composed(batch, other))


def test_every_judgement_is_weighted_by_its_share_of_body():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2], mask[..., 2:, 2:3] = 1, 1
    values = torch.tensor([[[[1.0, 100.0], [100.0, 4.0]]]])
    assert float(body_mean(values, mask)) == pytest.approx((1 + 0.5 * 4) / 1.5)


def test_losses_are_those_of_their_formulas():
    real, fake, mask = torch.tensor([[[[2.0, 0.5]]]]), torch.tensor([[[[-3.0, 1.0]]]]), torch.ones(1, 1, 1, 2)
    assert float(discriminator_loss(real, fake, mask, "hinge")) == pytest.approx((0 + 0 + 0.5 + 2) / 2)
    assert float(discriminator_loss(real, fake, mask, "least_squares")) == pytest.approx((1 + 9 + 0.25 + 1) / 4)
    assert float(generator_loss(fake, mask, "hinge")) == pytest.approx(1.0)
    assert float(generator_loss(fake, mask, "least_squares")) == pytest.approx((16 + 0) / 4)


def test_the_gradient_penalty_of_a_linear_judge_is_its_squared_norm():
    image = torch.randn(3, 1, 4, 4, requires_grad=True)
    weight = torch.randn(4, 4)
    judgement = (image * weight).sum(dim=(2, 3), keepdim=True)
    found = gradient_penalty(judgement, image, torch.ones(3, 1, 4, 4))
    assert float(found) == pytest.approx(0.5 * float(weight.square().sum()), rel=1e-5)


def test_the_discriminators_convolutions_have_unit_norm():
    torch.manual_seed(0)
    network = PatchDiscriminator(DiscriminatorSpec(2, 8, ((2, 2, 2), (1, 2, 2))))
    for _ in range(40):
        judged = network(torch.randn(1, 1, 8, 16, 16), torch.randn(1, 1, 8, 16, 16))
    assert judged[-1].shape == (1, 1, 4, 4, 4)
    for layer in [*network.layers, network.head]:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert float(norm.detach()) == pytest.approx(1, abs=0.05)


def test_the_spectral_norm_is_torchs_own_and_holds_in_mixed_precision():
    torch.manual_seed(0)
    ours = nn.Conv3d(3, 8, 3)
    with torch.no_grad():
        ours.weight[0] *= 4  # one direction stands out, so that both iterations have converged
    theirs = copy.deepcopy(ours)
    register_parametrization(ours, "weight", SpectralNorm(ours.weight))
    torch.nn.utils.parametrizations.spectral_norm(theirs)
    image = torch.randn(1, 3, 6, 6, 6)
    for _ in range(40):
        one, other = ours(image), theirs(image)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    (first, second) = (torch.autograd.grad(out.square().sum(), m.parametrizations.weight.original)[0]
                       for out, m in ((one, ours), (other, theirs)))  # fmt: skip
    torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours.weight.dtype == torch.float32
        assert ours(image).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", RIVALS, ids=lambda k: k.__name__)
def test_a_step_in_mixed_precision(toy, kind):
    loop = loop_of(toy, short(kind, precision="bfloat16"))
    report = loop.train_step([batch_for(loop)])
    assert all(np.isfinite(value) for value in report.values())
    half, full = (StepMemory(kind)(planned_step(loop, precision)).total for precision in ("bfloat16", "float32"))
    assert half < full


# ---- flow and bridge ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STEPWISE, ids=lambda k: k.__name__)
def test_the_checkpoint_holds_the_derived_network_and_how_to_draw_from_it(toy, kind):
    loop = loop_of(toy, short(kind))
    loop.train(0)
    save_json(loop.data.plans, loop.folder.path.parent / "plans.json")
    checkpoint = load_weights(loop.folder.path / "checkpoint_final.safetensors")
    planned = loop.data.configuration.network
    assert checkpoint.network == stepwise_spec(planned)
    assert (checkpoint.network.in_channels, checkpoint.network.condition_channels) == (3, 1)
    assert checkpoint.metadata.sampler == loop.trainer.sampler
    assert load_model(loop.folder.path.parent, None, "final").sampler == loop.trainer.sampler
    assert load_network(checkpoint)(torch.zeros(1, 3, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_older_networks_take_no_state(toy):
    planned = toy[0].configuration("3d_fullres").network
    old = {key: value for key, value in to_json(planned).items() if key != "takes_state"}
    assert from_json(NetworkSpec, old) == planned
    assert stepwise_spec(dataclasses.replace(planned, norm="none")).norm == "none"


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (FlowMatchingTrainer, {}, SamplerSpec("euler", 2)),
        (FlowMatchingTrainer, {"source": "condition", "solver": "heun"}, SamplerSpec("heun", 2, 0)),
        (BridgeTrainer, {}, SamplerSpec("bridge_stochastic", 2, 0, 0.3)),
        (BridgeTrainer, {"sampling": "deterministic"}, SamplerSpec("bridge_deterministic", 2, 0)),
    ],
)
def test_settings_choose_path_and_sampler_and_train(toy, kind, options, expected):
    loop = loop_of(toy, short(kind, **options))
    assert loop.trainer.sampler == expected
    before, batch = weights(loop), batch_for(loop)
    assert loop.train_step([batch])["loss_path"] > 0
    assert any(not torch.equal(value, before[name]) for name, value in weights(loop).items())


def states_of(loop, batch, draws=200):
    """Times and states that the network is shown, with the target and the condition."""
    seen = []
    loop.state.called = lambda values: seen.append(values) or values[:, :1]
    for iteration in range(draws):
        loop.state.iteration = iteration
        in_step(loop).generate(batch)
    return torch.cat(seen)


@pytest.mark.parametrize("kind", STEPWISE, ids=lambda k: k.__name__)
def test_states_lie_on_the_path(toy, kind):
    """Residuals to the straight line have the path's mean and variance, and outside the body its end is background."""
    loop = loop_of(toy, short(kind))
    batch = batch_for(loop)
    inputs = states_of(loop, batch)
    copies = len(inputs) // 2
    target = torch.where(batch.mask > 0, batch.target, torch.tensor(-1024 / 500)).repeat(copies, 1, 1, 1, 1)
    state, time = inputs[:, 1:2], inputs[:, 2:3]
    assert torch.equal(time, time[:, :, :1, :1, :1].expand_as(time))
    assert 0 <= float(time.min()) < 0.05
    assert 0.95 < float(time.max()) < 1
    if kind is FlowMatchingTrainer:
        residual = (state - time * target) / (1 - time).clamp(min=1e-3)
        expected = 1.0
    else:
        source = batch.condition.repeat(copies, 1, 1, 1, 1)
        residual = (state - (1 - time) * source - time * target) / (time * (1 - time)).sqrt().clamp(min=1e-3)
        expected = 0.3
    inner = (time > 0.1) & (time < 0.9)
    assert float(residual[inner].mean()) == pytest.approx(0, abs=0.01)
    assert float(residual[inner].std()) == pytest.approx(expected, rel=0.02)


def test_the_flows_loss_is_that_of_the_velocity(toy):
    loop = loop_of(toy, short(FlowMatchingTrainer))
    batch = batch_for(loop)
    estimate = torch.randn_like(batch.target)
    batch = dataclasses.replace(batch, context={"time": torch.tensor([0.2, 0.6])})
    time = batch.context["time"].reshape(2, 1, 1, 1, 1)
    state = torch.lerp(torch.randn_like(estimate), batch.target, time)
    velocity, wanted = (estimate - state) / (1 - time), (batch.target - state) / (1 - time)
    expected = functional.mse_loss(velocity[batch.mask > 0], wanted[batch.mask > 0])
    assert float(loop.trainer.loss_terms(batch, estimate)["path"]) == pytest.approx(float(expected), rel=1e-4)


def test_a_source_that_is_no_channel_is_refused(toy):
    with pytest.raises(GdmError, match="not a condition channel"):
        loop_of(toy, short(BridgeTrainer, source_channel=1))


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (AdversarialTrainer, {"discriminator_width": 16}),
        (AdversarialTrainer, {"r1_weight": 1.0, "feature_matching_weight": 1.0}),
        (FlowMatchingTrainer, {}),
        (BridgeTrainer, {}),
    ],
    ids=["adversarial", "adversarial with options", "flow", "bridge"],
)
def test_the_predicted_memory_is_that_of_a_real_step(toy, kind, options):
    kind = short(kind, **options)
    with LiveBytes() as live:
        loop = loop_of(toy, kind)
        batch = batch_for(loop)
        loop.train_step([batch])
        live.restart()
        loop.train_step([batch])
        measured = live.peak
    predicted = StepMemory(kind)(planned_step(loop))
    assert predicted.total == pytest.approx(measured, rel=0.1)
    assert np.prod(loop.data.configuration.patch_size) * 2 * 8 * 4 < predicted.activations
