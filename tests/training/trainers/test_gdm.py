"""The method's trainers: they learn, coordinate as a slow step does, resume exactly, and refuse what would mislead."""

import dataclasses

import pytest
import torch
from short_trainers import (
    batch_for,
    end_after,
    gradients,
    in_step,
    loop_of,
    planned_step,
    send_gradients,
    short,
    weights,
)  # fmt: skip

from gdmunet.errors import GdmError
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.training.loop.progress_figure import draw_progress
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer
from gdmunet.training.trainers.perceptual import PerceptualTrainer
from gdmunet.training.trainers.registry import named_trainers
from gdmunet.training.trainers.step import as_terms

# Those that train in turns have tests of their own: their generator learns before the encoder joins.
WITH_ENCODER = [kind for kind in named_trainers().values() if kind.uses_encoder and not kind.trains_in_turns]


@pytest.mark.parametrize("kind", WITH_ENCODER, ids=lambda k: k.__name__)
def test_every_variant_takes_steps_with_the_encoder_and_changes_its_weights(toy, kind):
    without_drift = kind.__name__.endswith("NoDrift")
    # NoDrift keeps its own feature_start: that it never joins is what is tested.
    loop = loop_of(toy, short(kind) if without_drift else short(kind, feature_start=0.0))
    before, batch = weights(loop), batch_for(loop)
    reports = [loop.train_step([batch])]
    # The last step has the encoder, however seldom it takes part.
    loop.state.iteration = loop.trainer.total_iterations - 1
    reports.append(loop.train_step([batch]))
    changed = [name for name, value in weights(loop).items() if not torch.equal(value, before[name])]
    assert len(changed) > len(before) / 2
    if without_drift:
        assert not any("cosine" in report or "norm_features" in report for report in reports)
    else:
        assert reports[1]["norm_features"] > 0
        assert 0 <= reports[1]["lambda"] <= 1


def drawn(figure):
    """Values by the label of their line; of equal labels the first panel's."""
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    return {line.get_label(): list(line.get_ydata(orig=True)) for line in reversed(lines)}


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_training_lowers_the_validation_error_and_the_journal_says_what_the_drift_did(toy, configuration):
    kind = short(GDMTrainer, epochs=4, iterations_per_epoch=10)
    loop = loop_of(toy, kind, configuration)
    loop.train(0)
    rows = loop.journal.rows()
    assert rows[-1]["validation_mae"] < 0.8 * rows[0]["validation_mae"]
    assert "cosine" not in rows[0]
    level = loop.trainer.levels[0].name
    wanted = {f"scale_{level}", f"force_{level}_0.02", f"ess_{level}_0.2", "cosine", "norm_fidelity", "lambda"}
    assert wanted <= rows[-1].keys()
    assert (loop.folder.path / "progress.png").is_file()
    found = drawn(draw_progress(rows))
    assert found[f"{level}, temperature 0.02"] == [row.get(f"force_{level}_0.02") for row in rows]
    # The lengths of both gradients, and not their ratio alone.
    for label, name in (
        ("norm of fidelity's gradient", "norm_fidelity"),
        ("norm of the features' gradient", "norm_features"),
    ):
        assert found[label] == [row.get(name) for row in rows]
        assert found[label][-1] > 0


def test_a_run_continues_bit_for_bit_with_its_bank(toy):
    kind = short(GDMTrainer, epochs=4, drift_normalisation="ema", gramian_ema=0.9)
    whole = loop_of(toy, kind)
    whole.train(0)

    stopped, continued = (loop_of(toy, type("Stopped", (kind,), {"__module__": __name__})) for _ in range(2))
    end_after(stopped, 12)
    assert stopped.trainer.force.bank.full
    continued.resume()
    assert continued.trainer.force.bank.sizes == stopped.trainer.force.bank.sizes
    continued.train(0)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())


def test_the_plain_sum_is_the_gradient_of_the_summed_loss(toy):
    """Two gradients met in the output space against one backward pass through everything."""
    loop = loop_of(toy, short(DriftTrainer, feature_start=0.0, bank_patches=0))
    batch, trainer = batch_for(loop), in_step(loop)
    terms = as_terms(trainer.loss_terms(batch, trainer.generate(batch).prediction))
    torch.stack([term.value for term in terms.values()]).sum().backward()
    expected = [gradient.clone() for gradient in gradients(loop)]
    loop.state.network.zero_grad(set_to_none=True)
    send_gradients(in_step(loop), batch)
    for found, wanted in zip(gradients(loop), expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max() + 1e-6))


def test_the_loss_scale_leaves_the_direction_alone(toy):
    found = {}
    for scale in (1.0, 1024.0):
        loop = loop_of(toy, short(GDMTrainer, feature_start=0.0))
        loop.state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        send_gradients(in_step(loop), batch_for(loop))
        found[scale] = [gradient / scale for gradient in gradients(loop)]
    for one, other in zip(found[1.0], found[1024.0], strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6 * float(one.abs().max() + 1e-6))


def test_what_lies_outside_the_body_changes_no_feature(toy):
    loop = loop_of(toy, short(GDMTrainer))
    batch = batch_for(loop)
    trainer = in_step(loop)
    one = trainer.feature_maps(batch, batch.target)
    other = trainer.feature_maps(batch, torch.where(batch.mask > 0, batch.target, batch.target + 7))
    assert all(torch.equal(a.values, b.values) for a, b in zip(one, other, strict=True))


def test_no_gradient_and_no_update_reaches_the_encoder(toy):
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0))
    before = [value.clone() for value in loop.trainer.encoder.state_dict().values()]
    loop.train_step([batch_for(loop)])
    assert all(p.grad is None and not p.requires_grad for p in loop.trainer.encoder.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, loop.trainer.encoder.state_dict().values(), strict=True))
    assert not any(name.startswith("encoder") for name in weights(loop))


def test_plans_without_an_encoder_are_refused_and_name_the_fidelity_trainer(toy):
    plans, folders = toy
    bare = {name: dataclasses.replace(c, encoder=None) for name, c in plans.configurations.items()}
    with pytest.raises(GdmError, match="FidelityTrainer"):
        loop_of((dataclasses.replace(plans, configurations=bare), folders), short(GDMTrainer), "2d")


def test_another_encoder_does_not_continue_a_run(toy):
    trainer = loop_of(toy, short(GDMTrainer)).trainer
    extra = trainer.extra_state()
    with pytest.raises(GdmError, match="encoder has changed"):
        trainer.load_extra_state(extra | {"encoder_sha256": "0" * 64})


def test_a_default_does_not_warn_of_token_sets_that_no_batch_can_fill(toy):
    """Global tokens, one per patch, at a batch of two: the description says so, the log of the steps does not."""
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0, minimum_tokens=20))
    assert {"local", "global"} == set(GDMTrainer.families)
    assert loop.data.configuration.batch_size == 2
    report = loop.train_step([batch_for(loop)])
    assert "left out" not in (loop.folder.path / "training_log.txt").read_text()
    _, named = loop.trainer.description().split("fewer than minimum_tokens=20 tokens of ")
    assert "stride_2/global_mean" in named
    assert "stride_2/local2_mean" not in named
    assert any(name.startswith("loss_drift_") for name in report)


def test_a_batch_with_little_body_leaves_token_sets_out_and_the_log_says_so_once(toy):
    loop = loop_of(toy, short(GDMTrainer, feature_start=0.0, minimum_tokens=20))
    batch = batch_for(loop)
    little = torch.zeros_like(batch.mask)
    little[:, :, 4:8, 4:8, 4:8] = 1
    for _ in range(2):
        loop.train_step([dataclasses.replace(batch, mask=little)])
    text = (loop.folder.path / "training_log.txt").read_text()
    assert text.count("left out of this step's drift, with fewer than minimum_tokens=20 tokens") == 1
    assert "stride_2/local2_mean (" in text
    assert "global" not in text


def test_a_batch_that_fills_no_token_set_at_all_is_refused(toy):
    with pytest.raises(GdmError, match=r"(?s)no token set can drift.*lower minimum_tokens"):
        loop_of(toy, short(GDMTrainer, families=("global",), minimum_tokens=3))


def test_fine_levels_drift_unless_others_are_asked_for(toy):
    def levels(**changes):
        return [level.name for level in loop_of(toy, short(GDMTrainer, **changes)).trainer.levels]

    strides = [max(level.stride) for level in loop_of(toy, short(GDMTrainer)).trainer.encoder_spec.levels]
    assert max(strides) > 4  # else nothing is left out
    assert levels() == [f"stride_{stride}" for stride in strides if stride <= 4]
    assert levels(drift_stride=64) == [f"stride_{stride}" for stride in strides]
    assert levels(drift_stride=1) == [f"stride_{min(strides)}"]
    assert levels(drift_levels=(f"stride_{max(strides)}",)) == [f"stride_{max(strides)}"]


def test_the_encoder_stops_after_the_last_level_that_drifts(toy):
    trainer = loop_of(toy, short(GDMTrainer)).trainer
    assert trainer.encoder.levels == trainer.levels
    assert len(trainer.encoder.network.stages) == len(trainer.levels) < len(trainer.encoder_spec.levels)
    everything = loop_of(toy, short(GDMTrainer, drift_stride=64)).trainer.encoder
    assert everything.levels == trainer.encoder_spec.levels


def test_an_unknown_level_is_refused(toy):
    with pytest.raises(GdmError, match="no such level"):
        loop_of(toy, short(GDMTrainer, drift_levels=("level9",)))


def test_the_encoder_bank_and_output_gradients_are_in_the_memory_count(toy):
    patch = (32, 32, 32)
    planned = planned_step(loop_of(toy, short(GDMTrainer)), patch_size=patch)
    count = StepMemory(GDMTrainer)
    whole, alone = count(planned), count(dataclasses.replace(planned, encoder=None))
    assert whole.activations == pytest.approx(alone.activations, rel=1e-3)
    assert whole.encoder > 0
    assert whole.bank == GDMTrainer.bank_bytes(planned.encoder, patch)
    assert whole.output_gradients == 3 * 4 * 2 * 32**3
    assert alone == StepMemory(FidelityTrainer)(planned)


@pytest.mark.parametrize("kind", [GDMTrainer, PerceptualTrainer], ids=lambda kind: kind.__name__)
def test_the_predicted_memory_is_that_of_a_real_step_with_the_encoder(toy, kind):
    levels = {"drift_stride": 64} if kind is GDMTrainer else {}
    kind = short(kind, feature_start=0.0, **levels)
    with LiveBytes() as live:
        loop = loop_of(toy, kind)
        batch = dataclasses.replace(
            batch_for(loop), mask=torch.ones(2, 1, 16, 16, 16)
        )  # as many tokens as there may be
        live.track(loop.trainer.encoder.state_dict())
        loop.train_step([batch])
        live.restart()
        loop.train_step([batch])
        measured = live.peak
    planned = planned_step(loop)
    assert StepMemory(kind, linear=False)(planned).total == pytest.approx(measured, rel=0.1)
    # The encoder is what a count without it would miss by more.
    assert StepMemory(kind)(dataclasses.replace(planned, encoder=None)).total < 0.9 * measured


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("GDMTrainerFreshEncoder", {}),
        ("GDMTrainerMGDA", {"per_sample": True}),
        ("GDMTrainerSinkhorn", {"accumulation": 2}),
        ("GDMTrainerGlobal", {"minimum_tokens": 32}),
        ("GDMTrainerTransportBattery", {"battery": 2}),
        ("GDMTrainerTransportPaired", {"accumulation": 2}),
        ("PairedStatisticsTrainer", {}),
        ("GDMTrainerPaper", {}),
        ("GDMTrainer", {"pairing": "index", "bank_patches": 0, "field": "logkde"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_every_kind_of_step_runs_without_data(toy, name, changes):
    planned = planned_step(loop_of(toy, short(GDMTrainer)), precision="float16")
    kind = short(named_trainers()[name], **changes)
    assert StepMemory(kind, linear=False)(planned).encoder > 0
