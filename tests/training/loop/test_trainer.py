import dataclasses
import json
import os
import signal
import threading

import pytest
import torch

from gdmunet.checkpoint import load_weights
from gdmunet.errors import GdmError
from gdmunet.training.loop import state
from gdmunet.training.loop.ema import weights_of
from gdmunet.training.loop.progress_figure import draw_progress
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.registry import TRAINERS
from gdmunet.training.trainers.trainer import Trainer

CPU = torch.device("cpu")


class Short(FidelityTrainer):
    epochs = 2
    iterations_per_epoch = 4
    learning_rate = 2e-3
    validation_patches = 4


def trainer_of(toy, kind=Short, configuration="3d_fullres", fold=0) -> Trainer:
    plans, folders = toy
    return kind(plans, configuration, fold, folders, CPU)


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in weights_of(trainer.network).items()}


def assert_equal_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def journal_losses(trainer):
    keys = ("epoch", "loss_fidelity", "validation_mae", "learning_rate")
    return [{key: row[key] for key in keys} for row in trainer.journal.rows()]


class StopAt(Short):
    """Asks for its own end, as Ctrl-C does, after some iterations."""

    stop_at: int = 3
    loader_signal: int = int(signal.SIGINT)

    def loss_terms(self, batch, prediction):
        if self.iteration == self.stop_at - 1 and self.stop_at:
            os.kill(os.getpid(), self.loader_signal)
        return super().loss_terms(batch, prediction)


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_training_lowers_the_validation_error(toy, configuration):
    trainer = trainer_of(toy, Short.derive({"epochs": "6", "iterations_per_epoch": "10"}), configuration)
    trainer.train(0, show_progress=False)
    errors = [row["validation_mae"] for row in trainer.journal.rows()]
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_training_continues_bit_for_bit(toy, tmp_path, number, workers):
    whole = trainer_of(toy)
    whole.train(0, show_progress=False)
    expected, rows, average = weights(whole), journal_losses(whole), dict(whole.average.state)

    # A trainer that stops itself lies in a folder of its own; only its name and stop differ.
    stopping = type("Stopping", (StopAt,), {"loader_signal": int(number)})
    stopped = trainer_of(toy, stopping)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(workers, show_progress=False)
    assert stopped.iteration == 3
    assert (stopped.fold_folder.path / "checkpoint_latest.safetensors").exists()

    continued = trainer_of(toy, stopping)
    state.load_resume_state(continued)
    assert continued.iteration == 3
    continued.train(workers, show_progress=False)
    assert_equal_weights(weights(continued), expected)
    assert_equal_weights(dict(continued.average.state), average)
    assert journal_losses(continued) == rows


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_sigterm_to_a_whole_job_saves_although_the_patch_workers_die_first(toy):
    class WorkersDie(Short):
        iterations = 500
        iterations_per_epoch = 500

        def _open_stream(self, workers):
            self.stream = super()._open_stream(workers)
            return self.stream

        def _stop_if_asked(self, interruption):
            # As if the signal came while patches are awaited: there is no step after it that could notice it.
            if self.iteration == 2:
                for worker in self.stream._augmenter._processes:
                    worker.kill()
                    worker.join()
                interruption.requested = signal.SIGTERM

    trainer = trainer_of(toy, WorkersDie)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(1, show_progress=False)
    assert torch.load(trainer.fold_folder.path / "resume.pt", weights_only=True)["iteration"] == trainer.iteration >= 2


def test_continuing_needs_a_state_and_the_same_settings(toy):
    trainer = trainer_of(toy)
    with pytest.raises(GdmError, match="nothing to continue"):
        state.load_resume_state(trainer)
    trainer.train(0, show_progress=False)
    other = trainer_of(toy, type("Short", (Short,), {"learning_rate": 1e-3}))
    with pytest.raises(GdmError, match="learning_rate was 0.002, is 0.001"):
        state.load_resume_state(other)


def test_a_loss_that_is_not_a_number_names_the_cases_and_overwrites_nothing(toy):
    class Diverges(Short):
        def loss_terms(self, batch, prediction):
            terms = super().loss_terms(batch, prediction)
            return {k: v * float("nan") for k, v in terms.items()} if self.iteration == 5 else terms

    trainer = trainer_of(toy, Diverges)
    with pytest.raises(GdmError, match="not a number at iteration 5") as error:
        trainer.train(0, show_progress=False)
    assert "case_" in str(error.value)
    assert torch.load(trainer.fold_folder.path / "resume.pt", weights_only=True)["iteration"] == 4
    assert not (trainer.fold_folder.path / "checkpoint_final.safetensors").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(toy, monkeypatch):
    trainer = trainer_of(toy)
    trainer.train(0, show_progress=False)
    file = trainer.fold_folder.path / "checkpoint_latest.safetensors"
    before = file.read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gdmunet.checkpoint.save_file", full)
    with pytest.raises(GdmError, match="No space left"):
        trainer.save("latest")
    assert file.read_bytes() == before
    assert not list(trainer.fold_folder.path.glob(".tmp*"))


def test_checkpoints_hold_the_averaged_weights_and_rebuild_their_network(toy):
    trainer = trainer_of(toy)
    trainer.train(0, show_progress=False)
    checkpoint = load_weights(trainer.fold_folder.path / "checkpoint_final.safetensors")
    assert checkpoint.network == trainer.configuration.network
    assert checkpoint.metadata.iteration == 8
    for name, value in trainer.average.state.items():
        assert torch.equal(checkpoint.state_dict[name], value)


def test_validation_patches_are_fixed_and_leave_the_weights_alone(toy):
    from gdmunet.training.loop.validation import patch_mae

    trainer = trainer_of(toy)
    before = weights(trainer)
    assert patch_mae(trainer) == patch_mae(trainer)
    assert_equal_weights(before, weights(trainer))


def test_the_journal_counts_what_it_should(toy):
    trainer = trainer_of(toy, Short.derive({"iterations": "7"}))
    trainer.train(0, show_progress=False)
    rows = [json.loads(line) for line in (trainer.fold_folder.path / "journal.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [4, 7]
    assert all(0 <= row["wait_share"] <= 1 and row["peak_memory_mb"] > 0 for row in rows)
    assert (trainer.fold_folder.path / "progress.png").is_file()
    labels = {line.get_label() for axis in draw_progress(rows).axes for line in axis.get_lines()}
    assert {"fidelity", "validation MAE", "its moving average", "waiting for patches"} <= labels


def test_accumulation_takes_as_many_batches_a_step(toy):
    """That their gradients are those of the larger batch is tested with the coordination."""

    class Counted(Short):
        accumulation = 2
        iterations = 2

    trainer = trainer_of(toy, Counted)
    seen: list[int] = []
    original = trainer.generate
    trainer.generate = lambda batch: (seen.append(len(batch.identifiers)), original(batch))[1]
    trainer.train(0, show_progress=False)
    assert seen == [2, 2, 2, 2]


def test_activation_checkpointing_changes_no_number(toy):
    plain = trainer_of(toy)
    saving = trainer_of(toy, type("Saving", (Short,), {"activation_checkpointing": True}))
    for trainer in (plain, saving):
        trainer.train(0, show_progress=False)
    assert_equal_weights(weights(plain), weights(saving))


def test_an_unknown_fold_lists_the_known_ones(toy):
    with pytest.raises(GdmError, match="expected: 0, 1, all"):
        trainer_of(toy, fold=7)
    assert trainer_of(toy, fold="all").training_cases == tuple(f"case_{i}" for i in range(4))


def test_no_thread_outlives_the_loader(toy):
    trainer_of(toy).train(1, show_progress=False)
    assert not [t for t in threading.enumerate() if t.name.startswith("results")]


@pytest.mark.parametrize("name", sorted(TRAINERS))
@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_every_trainer_takes_steps_that_change_its_weights(toy, name, configuration):
    overrides = {"iterations": "2", "iterations_per_epoch": "2", "validation_patches": "2"}
    if TRAINERS[name].settings().get("bank_patches"):
        overrides["bank_patches"] = "2"
    trainer = trainer_of(toy, TRAINERS[name].derive(overrides), configuration)
    before = weights(trainer)
    trainer.train(0, show_progress=False)
    assert any(not torch.equal(value, before[key]) for key, value in weights(trainer).items())


def test_one_case_alone_can_only_be_trained_on_all(toy):
    plans, folders = toy
    alone = dataclasses.replace(plans, folds=())
    with pytest.raises(GdmError, match="train on fold all"):
        trainer_of((alone, folders), fold=0)
    assert trainer_of((alone, folders), fold="all").training_cases
