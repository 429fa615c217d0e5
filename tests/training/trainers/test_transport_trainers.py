"""The trainers of the second version: moments that are filled and resumed, objectives, and the paper's reading."""

import dataclasses

import pytest
import torch
from short_trainers import batch_for, end_after, in_step, loop_of, planned_step, short, weights

from gdmunet.errors import GdmError
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.training.loop.progress_figure import draw_progress
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.paper import GDMTrainerPaper
from gdmunet.training.trainers.step import as_terms
from gdmunet.training.trainers.transport import (
    GDMTrainerCalibrated,
    GDMTrainerTransport,
    GDMTrainerTransportPaired,
    PairedStatisticsTrainer,
)

SHORT = {"moment_batches": 3, "calibration_steps": 2, "feature_every": 1}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (
            GDMTrainerTransportPaired,
            {"moment_batches": 3, "moment_refresh": 2, "calibration_steps": 2, "feature_every": 2},
        ),
        (GDMTrainerCalibrated, {"force_steps": 3, "calibration_steps": 1}),
    ],
    ids=["transport", "calibrated"],
)
def test_a_run_continues_bit_for_bit(toy, kind, changes):
    """Stopped two steps after the drift has joined: averages are half done, and maps wait for their turn."""
    kind = short(kind, epochs=2, iterations_per_epoch=4, feature_start=0.25, validation_patches=1, **changes)
    whole = loop_of(toy, kind)
    whole.train(0)
    stopped, continued = (loop_of(toy, type("Stopped", (kind,), {"__module__": __name__})) for _ in range(2))
    end_after(stopped, 4)
    continued.resume()
    continued.train(0)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())


@pytest.mark.parametrize("last", [40, 41], ids=["even length", "odd length"])
@pytest.mark.parametrize("every", [1, 2, 4])
def test_every_map_has_its_turn_however_often_the_encoder_takes_part(toy, every, last):
    own = {"moment_batches": 3, "moment_refresh": 2, "calibration_steps": 2, "feature_every": every}
    loop = loop_of(toy, short(GDMTrainerTransport, epochs=1, iterations_per_epoch=last, feature_start=0.0, **own))
    steps = range(last - 1 - 4 * every, last, every)
    journal = []
    for loop.state.iteration in steps:
        in_step(loop)
        report = loop.train_step([batch_for(loop)])
        journal.append({name: value for name, value in report.items() if name.startswith("frechet_")})
    sets = journal[2].keys()
    assert len(sets) > 2
    for name in sets:
        late = [float(row[name]) for row in journal[2:]]
        assert late[0] != late[2], f"{name} kept its map over two turns: {late}"


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_moments_are_filled_before_the_first_step_and_the_network_does_not_notice(toy, configuration):
    kind = short(GDMTrainerTransport, feature_start=0.0, **SHORT)
    loop = loop_of(toy, kind, configuration)
    before = {name: value.clone() for name, value in loop.state.network.state_dict().items()}
    loop.state.network.eval()
    trainer = in_step(loop)
    assert not loop.state.network.training
    assert all(torch.equal(value, before[name]) for name, value in loop.state.network.state_dict().items())
    # Of other sets so small a patch has too few tokens for a covariance: they join after some steps.
    keys = [f"{trainer.levels[0].name}/local2_{part}" for part in ("mean", "std")]
    assert all(trainer.force.moving.moments.batches[key] == 3 for key in keys)
    assert trainer.preview() is None
    report = loop.train_step([batch_for(loop)])
    assert report["frechet"] > 0
    assert report["norm_features"] > 0
    assert {f"frechet_{key.replace('/', '_')}" for key in keys} <= report.keys()


def test_before_the_drift_joins_no_moment_is_measured(toy):
    loop = loop_of(toy, short(GDMTrainerTransport, feature_start=0.5, **SHORT))
    assert in_step(loop).force.moving.empty
    loop.state.iteration = loop.trainer.total_iterations - 1
    assert not in_step(loop).force.moving.empty


def test_the_encoder_may_take_part_in_every_second_step_alone_and_in_the_last(toy):
    often = {"epochs": 1, "iterations_per_epoch": 7, "feature_start": 0.25, "feature_every": 2}
    kind = short(GDMTrainerTransport, **(SHORT | often))
    loop = loop_of(toy, kind)
    calls = []
    loop.trainer.encoder.register_forward_hook(lambda *_: calls.append(1))
    joined = []
    for loop.state.iteration in range(7):
        in_step(loop)  # also fills the moments
        calls.clear()
        joined.append("norm_features" in loop.train_step([batch_for(loop)]))
        assert bool(calls) == joined[-1]
    assert joined == [False, False, True, False, True, False, True]


def test_generated_tokens_that_are_their_twins_do_not_move(toy):
    loop = loop_of(toy, short(GDMTrainerTransport, feature_start=0.0, **SHORT))
    trainer = loop.trainer
    trainer._generated_aside = lambda batch: batch.target
    batch = batch_for(loop)
    in_step(loop)
    prediction = batch.target.clone().requires_grad_()
    terms = as_terms(trainer.feature_terms(batch, prediction))
    assert terms[f"drift_{trainer.levels[0].name}"].reported
    assert all(term.value.item() < 1e-6 for term in terms.values())


@pytest.mark.parametrize("objectives", ["two", "levels"])
def test_at_a_spread_the_forces_begin_in_proportion_to_the_distance(toy, objectives):
    changes = {"feature_start": 0.0, "objectives": objectives, "paired_statistics": True, **SHORT}
    loop = loop_of(toy, short(GDMTrainerTransport, calibrated_at="spread", calibrated_weight=3.0, **changes))
    trainer, batch, seen = in_step(loop), batch_for(loop), []
    combine = trainer.coordinator.combine

    def spy(gradients, **named):
        seen.append(combine(gradients, **named))
        return seen[-1]

    trainer.coordinator.combine = spy
    report = loop.train_step([batch])
    shares = seen[0].weights * seen[0].norms / seen[0].norms[0]
    drifts = [share.item() for share in shares[2:] if share > 0]
    assert shares[1].item() == pytest.approx(3.0, rel=1e-4)  # paired statistics: their whole strength
    assert drifts
    assert drifts == pytest.approx([3.0 * report["frechet"] ** 0.5] * len(drifts), rel=1e-4)


def test_transport_keeps_no_bank_and_knows_no_single_places(toy):
    loop = loop_of(toy, short(GDMTrainerTransport))
    planned = planned_step(loop)
    assert GDMTrainerTransport.bank_bytes(planned.encoder, planned.configuration.patch_size) == 0
    with pytest.raises(GdmError, match="moments of whole sets"):
        loop_of(toy, short(GDMTrainerTransport, pairing="index", bank_patches=0))
    with pytest.raises(GdmError, match="moment_batches 0"):
        loop_of(toy, short(GDMTrainerTransport, moment_batches=0))


def test_paired_statistics_are_an_objective_of_their_own(toy, monkeypatch):
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0, paired_statistics=True))
    trainer, batch = in_step(loop), batch_for(loop)
    counts = []
    combine = trainer.coordinator.combine

    def spy(gradients, **named):
        counts.append(len(gradients))
        return combine(gradients, **named)

    monkeypatch.setattr(trainer.coordinator, "combine", spy)
    report = loop.train_step([batch])
    assert report["loss_paired"] > 0
    # A batch without any body leaves as many gradients, and reports no zero.
    nothing = loop.train_step([dataclasses.replace(batch, mask=torch.zeros_like(batch.mask))])
    assert counts == [3, 3]
    assert "loss_paired" not in nothing
    levels = loop_of(toy, short(GDMTrainer, feature_start=0.0, paired_statistics=True, objectives="levels"))
    trainer = in_step(levels)
    terms = as_terms(trainer.loss_terms(batch, trainer.generate(batch).prediction))
    assert len(trainer._objectives(terms)) == 2 + len(trainer.levels)


def test_paired_statistics_read_local_tokens_alone(toy):
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0, paired_statistics=True, families=("spatial",)))
    trainer, batch = in_step(loop), batch_for(loop)
    terms = trainer.feature_terms(batch, trainer.generate(batch).prediction)
    assert not terms["paired"].reported


def test_forces_are_divided_by_the_mean_of_their_first_steps(toy):
    loop = loop_of(toy, short(GDMTrainerCalibrated, feature_start=0.0, force_steps=2))
    batch, seen = batch_for(loop), []
    for iteration in range(4):
        loop.state.iteration = iteration
        loop.train_step([batch])
        seen.append({key: value.clone() for key, value in loop.trainer.force._averages.items()})
    key = next(iter(seen[0]))
    assert not torch.equal(seen[0][key], seen[1][key])
    assert torch.equal(seen[1][key], seen[2][key])
    assert torch.equal(seen[1][key], seen[3][key])


def test_the_papers_reading_is_what_its_abstract_says(toy):
    loop = loop_of(toy, short(GDMTrainerPaper, feature_start=0.0))
    trainer = loop.trainer
    assert trainer.levels == trainer.encoder.levels
    assert {one.key.split("/")[1].partition("_")[0].rstrip("0123456789") for one in trainer._sets} == {
        "spatial", "local", "global",
    }  # fmt: skip
    options = trainer.force.options
    assert (options.field, options.affinity_floor, len(options.temperatures)) == ("official", 1e-6, 3)
    # Neither the twin nor the bank is kept from attracting, and the bank repels nothing.
    assert (options.mask_self, options.mask_twins, trainer.bank_side) == (True, False, "positives")
    assert (trainer.coordinator.weighting, trainer.coordinator.normalise) == ("mgda", "l2")
    assert GDMTrainerPaper.feature_start == 0.05
    report = loop.train_step([batch_for(loop)])
    assert len([name for name in report if name.startswith("loss_drift_")]) == len(trainer.levels)


@pytest.mark.parametrize("kind", [GDMTrainerTransportPaired, PairedStatisticsTrainer], ids=lambda kind: kind.__name__)
def test_the_predicted_memory_is_that_of_a_real_step(toy, kind):
    kind = short(kind, feature_start=0.0)
    with LiveBytes() as live:
        loop = loop_of(toy, kind)
        batch = dataclasses.replace(batch_for(loop), mask=torch.ones(2, 1, 16, 16, 16))
        live.track(loop.trainer.encoder.state_dict())
        loop.train_step([batch])
        live.restart()
        loop.train_step([batch])
        measured = live.peak
    planned = planned_step(loop)
    assert StepMemory(kind, linear=False)(planned).total == pytest.approx(measured, rel=0.1)
    whole, alone = StepMemory(kind)(planned), StepMemory(kind)(dataclasses.replace(planned, encoder=None))
    assert whole.total > alone.total


def test_the_journal_draws_the_distance_that_is_left(toy):
    kind = short(GDMTrainerTransport, epochs=1, iterations_per_epoch=2, validation_patches=1, feature_start=0.0)
    loop = loop_of(toy, kind)
    loop.train(0)
    rows = loop.journal.rows()
    assert rows[-1]["frechet"] > 0
    labels = {line.get_label() for axis in draw_progress(rows).axes for line in axis.get_lines()}
    assert "mean of all token sets" in labels
