"""Features of a frozen segmenter's encoder and decoder: what is compared, its gradient, steps, resuming, refusals."""

import dataclasses
from pathlib import Path

import pytest
import torch
from short_trainers import batch_for, end_after, in_step, loop_of, planned_step, short, weights
from toy_segmenter import segmenter_folder, toy_for

from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.errors import GdmError
from gdmunet.plans import Plans
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.training.loop.journal import Journal
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.anatomical import AnatomicalFeatureTrainer
from gdmunet.training.trainers.perceptual import PerceptualTrainer
from gdmunet.training.trainers.registry import find_trainer

CPU = torch.device("cpu")
JOINED = {"feature_start": 0.0}


def term(loop, batch, prediction):
    return in_step(loop).feature_terms(batch, prediction)["perceptual"]


def by_hand(loop, batch, prediction, chosen, unit=False):
    """The mean over levels of the L1 distance over the mean size of the target's features."""
    trainer = in_step(loop)
    maps = [trainer.feature_maps(batch, volume) for volume in (prediction, batch.target)]
    shares = []
    for generated, real in zip(*maps, strict=True):
        if not chosen(generated.level):
            continue
        a, b = generated.values, real.values
        if unit:
            a, b = (values / values.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12) for values in (a, b))
        shares.append((a - b).abs().mean() / b.abs().mean())
    return torch.stack(shares).mean(), len(shares)


def test_it_is_found_by_its_name():
    assert find_trainer("AnatomicalFeatureTrainer") is AnatomicalFeatureTrainer
    assert {"segmenter_part", "unit_features", "feature_start"} <= AnatomicalFeatureTrainer.settings().keys()


@pytest.mark.parametrize(("part", "levels"), [("both", 5), ("encoder", 3), ("decoder", 2)])
@pytest.mark.parametrize("unit", [False, True])
def test_the_levels_of_a_part_are_compared_each_over_its_size(toy, part, levels, unit):
    loop = loop_of(toy, short(AnatomicalFeatureTrainer, segmenter_part=part, unit_features=unit, **JOINED))
    batch = batch_for(loop)
    prediction = batch.target + 0.3 * torch.randn_like(batch.target)
    expected, count = by_hand(
        loop, batch, prediction, lambda name: part == "both" or name.startswith("decoder_") == (part == "decoder"), unit
    )
    assert count == levels
    torch.testing.assert_close(term(loop, batch, prediction), expected)
    assert term(loop, batch, batch.target) == 0
    # A decoder that nobody reads is not computed.
    assert len(loop.trainer.encoder.network.merges) == (0 if part == "encoder" else 2)


@pytest.mark.parametrize("part", ["both", "encoder", "decoder"])
@pytest.mark.parametrize("unit", [False, True])
def test_its_gradient_reaches_the_body_of_the_prediction_alone(toy, part, unit):
    loop = loop_of(toy, short(AnatomicalFeatureTrainer, segmenter_part=part, unit_features=unit, **JOINED))
    batch = batch_for(loop)
    prediction = (batch.target + 0.1).requires_grad_()
    term(loop, batch, prediction).backward()
    inside = batch.mask > 0
    assert prediction.grad.isfinite().all()
    assert (prediction.grad[inside] != 0).float().mean() > 0.5
    assert not prediction.grad[~inside].any()
    assert all(weight.grad is None for weight in loop.trainer.encoder.parameters())


@pytest.mark.parametrize("unit", [False, True])
def test_features_of_zero_have_a_gradient_that_is_a_number(toy, unit):
    loop = loop_of(toy, short(AnatomicalFeatureTrainer, unit_features=unit, **JOINED))
    batch = batch_for(loop)
    flat = dataclasses.replace(batch, target=torch.zeros_like(batch.target))
    prediction = torch.zeros_like(batch.target, requires_grad=True)
    term(loop, flat, prediction).backward()
    assert prediction.grad.isfinite().all()


def test_the_decoder_adds_what_the_encoder_alone_does_not_say(toy):
    """The perceptual trainer on the same plans compares all levels, too: the part is the difference."""
    batch = batch_for(loop_of(toy, short(AnatomicalFeatureTrainer, **JOINED)))
    prediction = batch.target + 0.3 * torch.randn_like(batch.target)
    both, encoder, decoder = (
        term(loop_of(toy, short(AnatomicalFeatureTrainer, segmenter_part=part, **JOINED)), batch, prediction)
        for part in ("both", "encoder", "decoder")
    )
    torch.testing.assert_close(both, (3 * encoder + 2 * decoder) / 5)
    assert decoder != encoder
    plain = loop_of(toy_for(AnatomicalFeatureTrainer, toy), short(PerceptualTrainer, **JOINED))
    assert term(plain, batch, prediction) == both


def test_a_run_continues_bit_for_bit(toy, monkeypatch):
    monkeypatch.setattr(Journal, "draw", lambda *_, **_named: None)  # pictures take most of the time
    kind = short(AnatomicalFeatureTrainer, iterations_per_epoch=2, feature_start=0.25)
    whole = loop_of(toy, kind)
    whole.train(0)
    assert whole.journal.rows()[-1]["loss_perceptual"] > 0
    stopped, continued = (loop_of(toy, type("Stopped", (kind,), {"__module__": __name__})) for _ in range(2))
    end_after(stopped, 2)
    continued.resume()
    continued.train(0)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())


@pytest.mark.parametrize("part", ["both", "encoder"])
def test_the_predicted_memory_is_that_of_a_real_step(toy, part):
    kind = short(AnatomicalFeatureTrainer, segmenter_part=part, **JOINED)
    with LiveBytes() as live:
        loop = loop_of(toy, kind)
        batch = batch_for(loop)
        live.track(loop.trainer.encoder.state_dict())
        loop.train_step([batch])
        live.restart()
        loop.train_step([batch])
        measured = live.peak
    planned = planned_step(loop)
    planned = dataclasses.replace(planned, encoder=loop.trainer.build_encoder().freeze())
    assert StepMemory(kind, linear=False)(planned).total == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_plans_whose_encoder_has_no_decoder_are_refused_with_the_command(toy, configuration):
    plans, folders = toy
    for given in (plans, without_encoder(plans)):
        data = FoldData.of(given, configuration, 0, folders.preprocessed)
        with pytest.raises(GdmError, match="AnatomicalFeatureTrainer needs a frozen segmenter") as raised:
            open_loop(AnatomicalFeatureTrainer, data, folders, CPU)
        assert raised.value.command.words[-2:] == ("-encoder", "segmenter:MODEL_FOLDER")
        assert "FidelityTrainer" in raised.value.remedy


def test_the_encoder_of_the_folder_alone_is_refused(toy):
    plans, folders = toy
    configuration = plans.configurations["3d_fullres"]
    units, spec = VolumeUnits.of(configuration, "CT"), f"nnunet:{segmenter_folder(3)}"
    encoder = choose_encoder(spec, units, 3, EncoderOptions(Path("no cache"))).spec
    given = dataclasses.replace(
        plans, configurations={"3d_fullres": dataclasses.replace(configuration, encoder=encoder)}
    )
    data = FoldData.of(given, "3d_fullres", 0, folders.preprocessed)
    with pytest.raises(GdmError, match="needs a frozen segmenter") as raised:
        open_loop(AnatomicalFeatureTrainer, data, folders, CPU)
    assert raised.value.found == encoder.spec


def without_encoder(plans: Plans) -> Plans:
    bare = {name: dataclasses.replace(one, encoder=None) for name, one in plans.configurations.items()}
    return dataclasses.replace(plans, configurations=bare)


def test_planning_for_it_refuses_an_encoder_without_a_decoder(toy):
    plans, _ = toy
    levels = plans.configurations["3d_fullres"].encoder.levels
    with pytest.raises(GdmError, match="compares features of a segmenter's decoder") as raised:
        AnatomicalFeatureTrainer.used_levels(levels)
    assert raised.value.expected == "-encoder segmenter:MODEL_FOLDER"
