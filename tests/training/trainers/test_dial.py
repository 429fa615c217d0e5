"""The dial for realism: at 0 the fidelity model to the last bit, linear between, nearer to real images at 1."""

import dataclasses

import numpy as np
import pytest
import torch
from short_trainers import batch_for, end_after, in_step, loop_of, planned_step, short, weights

from gdmunet.checkpoint import load_network, load_weights
from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.distances import frechet_distance
from gdmunet.evaluation.report.sections import dial_charts
from gdmunet.evaluation.scores.dial_curve import DialCurve, DialScores
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.serialization import from_json, to_json
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.dial import GDMTrainerDial
from gdmunet.training.trainers.fidelity import FidelityTrainer


def short_dial(**changes):
    """The first half of 8 steps trains F, the second H."""
    return short(GDMTrainerDial, **{"feature_start": 0.5, "moment_batches": 2} | changes)


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_realism_0_is_the_fidelity_model_bit_for_bit(toy, configuration):
    """The U-Net learns as a whole training of fidelity alone, and is left alone afterwards."""
    alone = loop_of(
        toy,
        FidelityTrainer.derive(
            {"iterations": "4", "iterations_per_epoch": "4", "learning_rate": "2e-3", "validation_patches": "2"}
        ),
        configuration,
    )
    alone.train(0)
    loop = loop_of(toy, short_dial(epochs=2), configuration)
    loop.train(0)
    faithful = load_network(load_weights(alone.folder.checkpoint("final")))
    for name in ("final", "best", "latest"):
        network = load_network(load_weights(loop.folder.checkpoint(name)))
        condition = batch_for(loop).condition
        with torch.no_grad():
            assert torch.equal(network(condition), faithful(condition))
            assert not torch.equal(network(condition, 1.0), faithful(condition))


def test_the_prediction_is_linear_in_the_dial(toy):
    loop = loop_of(toy, short_dial())
    loop.train(0)
    network, condition = loop.state.network.eval(), batch_for(loop).condition
    with torch.no_grad():
        ends = [network(condition, realism) for realism in (0.0, 1.0)]
        faithful, change = network(condition, None)
        for realism in (0.25, 0.7):
            mixed = torch.lerp(*ends, realism)
            torch.testing.assert_close(network(condition, realism), mixed, atol=1e-6, rtol=1e-5)
        assert torch.equal(faithful, ends[0])
        torch.testing.assert_close(change, ends[1] - ends[0], atol=1e-6, rtol=1e-5)


def test_a_run_continues_bit_for_bit_before_and_after_the_change_joins(toy):
    kind = short_dial(epochs=4)
    whole = loop_of(toy, kind)
    whole.train(0)
    expected = weights(whole)
    for iteration in (4, 8, 12):
        stopped = loop_of(toy, kind)
        end_after(stopped, iteration)
        continued = loop_of(toy, kind)
        continued.resume()
        continued.train(0)
        assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())


@pytest.mark.parametrize("faithful_rate", [0.0, 0.1])
def test_only_what_learns_has_a_gradient(toy, faithful_rate):
    loop = loop_of(toy, short_dial(faithful_rate=faithful_rate))
    batch = batch_for(loop)
    loop.train_step([batch])
    before = weights(loop)
    loop.state.iteration = 5  # behind the one that takes over the averaged weights
    report = loop.train_step([batch])
    changed = {name for name, value in weights(loop).items() if not torch.equal(value, before[name])}
    assert any(name.startswith("dial.") for name in changed)
    assert any(name.startswith("unet.") for name in changed) == bool(faithful_rate)
    assert ("loss_faithful" in report) == bool(faithful_rate)
    assert {"loss_realistic_fidelity", "norm_features"} <= report.keys()


def test_the_average_of_the_change_begins_with_the_change(toy):
    """Behind a long training of F the average is slow; the change starts from nothing, and would stay near it."""
    loop = loop_of(toy, short_dial(iterations_per_epoch=40, epochs=1, ema_decay=0.999))
    loop.state.average.steps = 10_000
    for loop.state.iteration in range(20, 32):
        loop.train_step([batch_for(loop)])
    learnt = weights(loop)
    made = [name for name, value in learnt.items() if name.startswith("dial.") and value.ndim > 1]
    last = made[-1]
    assert learnt[last].norm() > 0
    assert loop.state.average.state[last].norm() > 0.3 * learnt[last].norm()


def test_a_dial_on_nothing_is_refused(toy):
    with pytest.raises(GdmError, match="never be trained"):
        loop_of(toy, short_dial(feature_start=0.0))
    with pytest.raises(GdmError, match="change would never be trained"):
        loop_of(toy, short_dial(dial_fidelity=0.0))


@pytest.mark.parametrize(("configuration", "faithful_rate"), [("3d_fullres", 0.0), ("3d_fullres", 0.1), ("2d", 0.0)])
def test_the_predicted_memory_is_that_of_a_step(toy, configuration, faithful_rate):
    """Of the larger of both kinds of step, once the moments of all weights are there."""
    kind = short_dial(faithful_rate=faithful_rate)
    loop = loop_of(toy, kind, configuration)
    with LiveBytes() as live:
        loop = loop_of(toy, kind, configuration)
        batch = batch_for(loop)
        full = dataclasses.replace(batch, mask=torch.ones_like(batch.mask))
        live.track(loop.trainer.encoder.state_dict())
        peaks = []
        for iteration in (0, 7, 0, 7):
            loop.state.iteration = iteration
            in_step(loop)
            live.restart()
            loop.train_step([full])
            peaks.append(live.peak)
    predicted = StepMemory(kind, linear=False)(planned_step(loop))
    assert predicted.total == pytest.approx(max(peaks[2:]), rel=0.1)


def test_the_default_is_the_largest_place_of_at_most_a_hundredth_more_error():
    errors = [[10.0, 10.0, 10.05, 10.2, 11.0], [20.0, 20.0, 20.1, 20.5, 22.0]]
    draws = np.random.default_rng(0)
    real = {"level": draws.normal(size=(200, 3)).astype(np.float32)}
    features = tuple(({"level": real["level"] * scale}, real) for scale in (0.2, 0.4, 0.6, 0.8, 1.0))
    curve = DialCurve.of([DialScores(tuple(row), features) for row in errors], "HU", "judge")
    assert curve.realism == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert curve.mae == pytest.approx((15.0, 15.0, 15.075, 15.35, 16.5))
    assert curve.chosen == 0.5
    assert from_json(DialCurve, to_json(curve)) == curve
    assert curve.frechet is not None
    assert list(curve.frechet) == sorted(curve.frechet, reverse=True)
    assert curve.frechet[-1] == pytest.approx(0, abs=1e-5)
    assert "Frechet distance (judge) 0: " in curve.describe()
    assert [chart.lines[0].name for chart in dial_charts(curve)] == ["MAE", "Frechet distance"]
    bare = DialCurve.of([DialScores(tuple(row), tuple(({}, {}) for _ in row)) for row in errors], "HU", "judge")
    assert (bare.frechet, bare.encoder) == (None, "")
    # dial.json of earlier versions has no distances.
    earlier = {key: value for key, value in to_json(curve).items() if key not in ("frechet", "encoder")}
    assert [chart.lines[0].name for chart in dial_charts(from_json(DialCurve, earlier))] == ["MAE"]
    assert dial_charts(None) == []


def test_realism_brings_features_nearer_all_along_the_dial(toy):
    """On patches of a short training: the Frechet distance of all levels together falls from place to place."""
    kind = short_dial(epochs=2, iterations_per_epoch=20, learning_rate=1e-2, minimum_tokens=2)
    loop = loop_of(toy, kind, "2d")
    loop.train(0)
    trainer = in_step_at(loop, loop.trainer.total_iterations - 1)
    batches = [batch_for(loop) for _ in range(3)]
    network = loop.state.network.eval()
    distances = []
    with torch.no_grad():
        for realism in (0.0, 0.25, 0.5, 0.75, 1.0):
            made, real = (
                [trainer.feature_maps(batch, volume) for batch, volume in zip(batches, volumes, strict=True)]
                for volumes in (
                    [network(batch.condition, realism) for batch in batches],
                    [batch.target for batch in batches],
                )
            )
            levels = range(len(made[0]))
            distances.append(sum(frechet_distance(places(made, k), places(real, k)) for k in levels))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.9 * distances[0]


def places(batches, level):
    """(n, C) features of a level at all places of all batches."""
    return torch.cat([maps[level].values.movedim(1, -1).flatten(0, -2) for maps in batches]).numpy()


def in_step_at(loop, iteration):
    loop.state.iteration = iteration
    return in_step(loop)
