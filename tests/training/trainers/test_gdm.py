"""The method's trainers: they learn, coordinate as a slow step does, resume exactly, and refuse what would mislead."""

import dataclasses
from pathlib import Path

import pytest
import torch
from short_trainers import CPU, batch_for, short, trainer_of, weights
from toy import tiny_encoder

from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.loading import load_encoder
from gdmunet.errors import GdmError
from gdmunet.preprocessing.memory import LiveBytes, training_footprint
from gdmunet.training.loop import state
from gdmunet.training.loop.progress_figure import draw_progress
from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer
from gdmunet.training.trainers.perceptual import PerceptualTrainer
from gdmunet.training.trainers.variants import VARIANTS


@pytest.mark.parametrize("kind", [GDMTrainer, DriftTrainer, PerceptualTrainer, *VARIANTS], ids=lambda k: k.__name__)
def test_every_variant_takes_steps_with_the_encoder_and_changes_its_weights(toy, kind):
    without_drift = kind.__name__.endswith("NoDrift")
    # NoDrift keeps its own feature_start: that it never joins is what is tested.
    trainer = trainer_of(toy, short(kind) if without_drift else short(kind, feature_start=0.0))
    before, batch = weights(trainer), batch_for(trainer)
    reports = [trainer.train_step([batch]) for _ in range(2)]
    changed = [name for name, value in weights(trainer).items() if not torch.equal(value, before[name])]
    assert len(changed) > len(before) / 2
    if without_drift:
        trainer.iteration = trainer.total_iterations - 1
        reports.append(trainer.train_step([batch]))
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
    trainer = trainer_of(toy, kind, configuration)
    trainer.train(0, show_progress=False)
    rows = trainer.journal.rows()
    assert rows[-1]["validation_mae"] < 0.8 * rows[0]["validation_mae"]
    assert "cosine" not in rows[0]
    level = trainer.levels[0].name
    wanted = {f"scale_{level}", f"force_{level}_0.02", f"ess_{level}_0.2", "cosine", "norm_fidelity", "lambda"}
    assert wanted <= rows[-1].keys()
    assert (trainer.fold_folder.path / "progress.png").is_file()
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
    whole = trainer_of(toy, kind)
    whole.train(0, show_progress=False)

    class Stopping(kind):
        def save_latest(self):
            super().save_latest()
            if self.iteration == 12 and not self.bank.full:
                raise RuntimeError("the bank should be full by now")
            if self.iteration == 12:
                raise KeyboardInterrupt

    Stopping.__name__ = "Stopped"
    stopped = trainer_of(toy, Stopping)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(0, show_progress=False)
    continued = trainer_of(toy, type("Stopped", (kind,), {"__module__": __name__}))
    state.load_resume_state(continued)
    assert continued.bank.sizes == stopped.bank.sizes
    continued.train(0, show_progress=False)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())


def test_the_plain_sum_is_the_gradient_of_the_summed_loss(toy):
    """Two gradients met in the output space against one backward pass through everything."""
    trainer = trainer_of(toy, short(DriftTrainer, feature_start=0.0))
    batch = batch_for(trainer)
    trainer._fill_bank()
    saved = {key: {k: v.clone() for k, v in one.items()} for key, one in trainer.bank.state().items()}
    prediction = trainer.generate(batch)
    terms = trainer.loss_terms(batch, prediction)
    torch.stack(list(terms.values())).sum().backward()
    expected = [p.grad.clone() for p in trainer.network.parameters()]
    trainer.network.zero_grad(set_to_none=True)
    trainer.bank.load_state(saved)
    trainer._draws = (-1, torch.Generator())
    prediction = trainer.generate(batch)
    trainer.combine(trainer.loss_terms(batch, prediction), prediction)
    for found, wanted in zip([p.grad for p in trainer.network.parameters()], expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max() + 1e-6))


def test_the_loss_scale_leaves_the_direction_alone(toy):
    gradients = {}
    for scale in (1.0, 1024.0):
        trainer = trainer_of(toy, short(GDMTrainer, feature_start=0.0))
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        batch = batch_for(trainer)
        prediction = trainer.generate(batch)
        trainer.combine(trainer.loss_terms(batch, prediction), prediction)
        gradients[scale] = [p.grad / scale for p in trainer.network.parameters()]
    for one, other in zip(gradients[1.0], gradients[1024.0], strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6 * float(one.abs().max() + 1e-6))


def test_what_lies_outside_the_body_changes_no_feature(toy):
    trainer = trainer_of(toy, short(GDMTrainer))
    batch = batch_for(trainer)
    one = trainer.feature_maps(batch, batch.target)
    other = trainer.feature_maps(batch, torch.where(batch.mask > 0, batch.target, batch.target + 7))
    assert all(torch.equal(a.values, b.values) for a, b in zip(one, other, strict=True))


def test_no_gradient_and_no_update_reaches_the_encoder(toy):
    trainer = trainer_of(toy, short(GDMTrainer, feature_start=0.0))
    before = [value.clone() for value in trainer.encoder.state_dict().values()]
    trainer.train_step([batch_for(trainer)])
    assert all(p.grad is None and not p.requires_grad for p in trainer.encoder.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.encoder.state_dict().values(), strict=True))
    assert not any(name.startswith("encoder") for name in weights(trainer))


def test_plans_without_an_encoder_are_refused_and_name_the_fidelity_trainer(toy):
    plans, folders = toy
    bare = {name: dataclasses.replace(c, encoder=None) for name, c in plans.configurations.items()}
    with pytest.raises(GdmError, match="FidelityTrainer"):
        short(GDMTrainer)(dataclasses.replace(plans, configurations=bare), "2d", 0, folders, CPU)


def test_another_encoder_does_not_continue_a_run(toy):
    trainer = trainer_of(toy, short(GDMTrainer))
    extra = trainer.extra_state()
    with pytest.raises(GdmError, match="encoder has changed"):
        trainer.load_extra_state(extra | {"encoder_sha256": "0" * 64})


def test_a_default_does_not_warn_of_token_sets_that_no_batch_can_fill(toy):
    """Global tokens, one per patch, at a batch of two: the description says so, the log of the steps does not."""
    trainer = trainer_of(toy, short(GDMTrainer, feature_start=0.0, minimum_tokens=20))
    assert {"local", "global"} == set(GDMTrainer.families) and trainer.configuration.batch_size == 2
    report = trainer.train_step([batch_for(trainer)])
    assert "left out" not in (trainer.fold_folder.path / "training_log.txt").read_text()
    _, named = trainer.description().split("fewer than minimum_tokens=20 tokens of ")
    assert "stride_2/global_mean" in named and "stride_2/local2_mean" not in named
    assert any(name.startswith("loss_drift_") for name in report)


def test_a_batch_with_little_body_leaves_token_sets_out_and_the_log_says_so_once(toy):
    trainer = trainer_of(toy, short(GDMTrainer, feature_start=0.0, minimum_tokens=20))
    batch = batch_for(trainer)
    little = torch.zeros_like(batch.mask)
    little[:, :, 4:8, 4:8, 4:8] = 1
    for _ in range(2):
        trainer.train_step([dataclasses.replace(batch, mask=little)])
    text = (trainer.fold_folder / "training_log.txt").read_text()
    assert text.count("left out of this step's drift, with fewer than minimum_tokens=20 tokens") == 1
    assert "stride_2/local2_mean (" in text and "global" not in text


def test_a_batch_that_fills_no_token_set_at_all_is_refused(toy):
    with pytest.raises(GdmError, match="(?s)no token set can drift.*lower minimum_tokens"):
        trainer_of(toy, short(GDMTrainer, families=("global",), minimum_tokens=3))


def test_fine_levels_drift_unless_others_are_asked_for(toy):
    def levels(**changes):
        return [level.name for level in trainer_of(toy, short(GDMTrainer, **changes)).levels]

    strides = [max(level.stride) for level in trainer_of(toy, short(GDMTrainer)).encoder.levels]
    assert max(strides) > 4  # else nothing is left out
    assert levels() == [f"stride_{stride}" for stride in strides if stride <= 4]
    assert levels(drift_stride=64) == [f"stride_{stride}" for stride in strides]
    assert levels(drift_stride=1) == [f"stride_{min(strides)}"]
    assert levels(drift_levels=(f"stride_{max(strides)}",)) == [f"stride_{max(strides)}"]


def test_an_unknown_level_is_refused(toy):
    with pytest.raises(GdmError, match="no such level"):
        trainer_of(toy, short(GDMTrainer, drift_levels=("level9",)))


def test_the_encoder_bank_and_output_gradients_are_in_the_memory_count(toy):
    plans, _ = toy
    configuration = plans.configuration("3d_fullres")
    encoder = load_encoder(tiny_encoder(), VolumeUnits.of(configuration, "CT"), Path("no cache"))
    spec, patch = configuration.network, (32, 32, 32)
    alone = training_footprint(spec, patch, 2, "float32")
    whole = GDMTrainer.footprint(spec, patch, 2, "float32", encoder)
    assert whole.activations == alone.activations
    assert whole.encoder > 0
    assert whole.bank == GDMTrainer.bank_bytes(encoder, patch)
    assert whole.output_gradients == 3 * 4 * 2 * 32**3
    assert whole.total == alone.total + whole.encoder + whole.bank + whole.output_gradients
    assert GDMTrainer.footprint(spec, patch, 2, "float32").total == alone.total


@pytest.mark.parametrize("kind", [GDMTrainer, PerceptualTrainer], ids=lambda kind: kind.__name__)
def test_the_predicted_memory_is_that_of_a_real_step_with_the_encoder(toy, kind):
    """With few tokens: their pairs, some MB whatever the patch, are not in the count."""
    kind = short(kind, feature_start=0.0)
    with LiveBytes() as live:
        trainer = trainer_of(toy, kind)
        batch = batch_for(trainer)
        live.track(trainer.encoder.state_dict())
        trainer.train_step([batch])
        live.restart()
        trainer.train_step([batch])
        measured = live.peak
    network, patch = trainer.configuration.network, trainer.configuration.patch_size
    predicted = kind.footprint(network, patch, 2, "float32", trainer.encoder)
    assert predicted.total == pytest.approx(measured, rel=0.1)
    # The encoder is what a count without it would miss by more.
    assert kind.footprint(network, patch, 2, "float32").total < 0.9 * measured
