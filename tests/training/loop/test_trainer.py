import dataclasses
import json
import os
import signal
import threading

import pytest
import torch
from short_trainers import loop_of, weights

from gdmunet.checkpoint import load_weights
from gdmunet.errors import GdmError
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.progress_figure import draw_progress
from gdmunet.training.loop.validation import patch_mae
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.registry import named_trainers


class Short(FidelityTrainer):
    epochs = 2
    iterations_per_epoch = 4
    learning_rate = 2e-3
    validation_patches = 4


def assert_equal_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def journal_losses(loop):
    keys = ("epoch", "loss_fidelity", "validation_mae", "learning_rate")
    return [{key: row[key] for key in keys} for row in loop.journal.rows()]


class StopAt(Short):
    """Asks for its own end, as Ctrl-C does, after some iterations."""

    stop_at: int = 3
    loader_signal: int = int(signal.SIGINT)

    def loss_terms(self, batch, prediction):
        if self.step.iteration == self.stop_at - 1 and self.stop_at:
            os.kill(os.getpid(), self.loader_signal)
        return super().loss_terms(batch, prediction)


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_training_lowers_the_validation_error(toy, configuration):
    loop = loop_of(toy, Short.derive({"epochs": "6", "iterations_per_epoch": "10"}), configuration)
    loop.train(0)
    errors = [row["validation_mae"] for row in loop.journal.rows()]
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_training_continues_bit_for_bit(toy, number, workers):
    whole = loop_of(toy, Short)
    whole.train(0)
    expected, rows, average = weights(whole), journal_losses(whole), dict(whole.state.average.state)

    # A trainer that stops itself lies in a folder of its own; only its name and stop differ.
    stopping = type("Stopping", (StopAt,), {"loader_signal": int(number)})
    stopped = loop_of(toy, stopping)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(workers)
    assert stopped.state.iteration == 3
    assert (stopped.folder.path / "checkpoint_latest.safetensors").exists()

    continued = loop_of(toy, stopping)
    continued.resume()
    assert continued.state.iteration == 3
    continued.train(workers)
    assert_equal_weights(weights(continued), expected)
    assert_equal_weights(dict(continued.state.average.state), average)
    assert journal_losses(continued) == rows


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_sigterm_to_a_whole_job_saves_although_the_patch_workers_die_first(toy):
    class Long(Short):
        iterations = 500
        iterations_per_epoch = 500

    class WorkersDie(Loop):
        def _open_stream(self, workers):
            self.stream = super()._open_stream(workers)
            return self.stream

        def _stop_if_asked(self, interruption, _due):
            # As if the signal came while patches are awaited: there is no step after it that could notice it.
            if self.state.iteration == 2:
                for worker in self.stream._augmenter._processes:
                    worker.kill()
                    worker.join()
                interruption.requested = signal.SIGTERM

    loop = loop_of(toy, Long)
    loop = WorkersDie(loop.trainer, loop.state, loop.data, loop.folder, show_progress=False)
    with pytest.raises(KeyboardInterrupt):
        loop.train(1)
    saved = torch.load(loop.folder.path / "resume.pt", weights_only=True)
    assert saved["iteration"] == loop.state.iteration >= 2


def test_continuing_needs_a_state_and_the_same_settings(toy):
    loop = loop_of(toy, Short)
    with pytest.raises(GdmError, match="nothing to continue"):
        loop.resume()
    loop.train(0)
    other = loop_of(toy, type("Short", (Short,), {"learning_rate": 1e-3}))
    with pytest.raises(GdmError, match=r"learning_rate was 0\.002, is 0\.001"):
        other.resume()


def test_a_setting_that_came_after_the_resume_state_counts_as_its_default(toy):
    loop = loop_of(toy, Short)
    loop.save_latest()
    file = loop.folder.resume
    older = torch.load(file, weights_only=True)
    del older["settings"]["gradient_weight"]
    torch.save(older, file)
    loop.resume()
    other = loop_of(toy, type("Short", (Short,), {"gradient_weight": 0.5}))
    with pytest.raises(GdmError, match=r"gradient_weight was 0\.0, is 0\.5"):
        other.resume()


def test_a_loss_that_is_not_a_number_names_the_cases_and_overwrites_nothing(toy):
    class Diverges(Short):
        def loss_terms(self, batch, prediction):
            terms = super().loss_terms(batch, prediction)
            return {k: v * float("nan") for k, v in terms.items()} if self.step.iteration == 5 else terms

    loop = loop_of(toy, Diverges)
    with pytest.raises(GdmError, match="not a number at iteration 5") as error:
        loop.train(0)
    assert "case_" in str(error.value)
    assert torch.load(loop.folder.path / "resume.pt", weights_only=True)["iteration"] == 4
    assert not (loop.folder.path / "checkpoint_final.safetensors").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(toy, monkeypatch):
    loop = loop_of(toy, Short)
    loop.train(0)
    file = loop.folder.path / "checkpoint_latest.safetensors"
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gdmunet.checkpoint.save_file", full)
    with pytest.raises(GdmError, match="No space left"):
        loop.save("latest")
    assert file.read_bytes() == before
    assert not list(loop.folder.path.glob(".tmp*"))


def test_checkpoints_hold_the_averaged_weights_and_rebuild_their_network(toy):
    loop = loop_of(toy, Short)
    loop.train(0)
    checkpoint = load_weights(loop.folder.path / "checkpoint_final.safetensors")
    assert checkpoint.network == loop.data.configuration.network
    assert checkpoint.metadata.iteration == 8
    for name, value in loop.state.average.state.items():
        assert torch.equal(checkpoint.state_dict[name], value)


def test_validation_patches_are_fixed_and_leave_the_weights_alone(toy):
    loop = loop_of(toy, Short)
    before = weights(loop)
    assert patch_mae(loop.trainer, loop.state, loop.data) == patch_mae(loop.trainer, loop.state, loop.data)
    assert_equal_weights(before, weights(loop))


def test_the_journal_counts_what_it_should(toy):
    loop = loop_of(toy, Short.derive({"iterations": "7"}))
    loop.train(0)
    rows = [json.loads(line) for line in (loop.folder.path / "journal.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [4, 7]
    assert all(0 <= row["wait_share"] <= 1 and row["peak_memory_mb"] > 0 for row in rows)
    assert (loop.folder.path / "progress.png").is_file()
    labels = {line.get_label() for axis in draw_progress(rows).axes for line in axis.get_lines()}
    assert {"fidelity", "validation MAE", "its moving average", "waiting for patches"} <= labels


def test_the_picture_is_drawn_twice_per_minute_and_at_the_end(toy, monkeypatch):
    """A drawing takes as long as many steps of a small training."""
    loop = loop_of(toy, Short)
    drawn: list[int] = []

    class Picture:
        def savefig(self, stream, **_):
            stream.write(b"picture")

    monkeypatch.setattr(
        "gdmunet.training.loop.journal.draw_progress", lambda rows: (drawn.append(len(rows)), Picture())[1]
    )
    clock = [loop.journal._drawn]
    monkeypatch.setattr("gdmunet.training.loop.journal.time.monotonic", lambda: clock[0])
    for epoch, (seconds, last) in enumerate([(10.0, False), (19.0, False), (2.0, False), (5.0, False), (5.0, True)]):
        clock[0] += seconds
        loop.journal.record({"epoch": epoch})
        loop.journal.draw(last)
    assert drawn == [3, 5]
    assert loop.folder.progress_figure.read_bytes() == b"picture"


def test_an_interrupted_training_leaves_its_picture(toy):
    stopped = loop_of(toy, type("Stopping", (StopAt,), {"stop_at": 6}))
    with pytest.raises(KeyboardInterrupt):
        stopped.train(0)
    assert stopped.folder.progress_figure.is_file()


def test_accumulation_takes_as_many_batches_a_step(toy):
    """That their gradients are those of the larger batch is tested with the coordination."""

    class Counted(Short):
        accumulation = 2
        iterations = 2

    loop = loop_of(toy, Counted)
    seen: list[int] = []
    original = loop.trainer.generate
    loop.trainer.generate = lambda batch: (seen.append(len(batch.identifiers)), original(batch))[1]
    loop.train(0)
    assert seen == [2, 2, 2, 2]


def test_activation_checkpointing_changes_no_number(toy):
    plain = loop_of(toy, Short)
    saving = loop_of(toy, type("Saving", (Short,), {"activation_checkpointing": True}))
    for loop in (plain, saving):
        loop.train(0)
    assert_equal_weights(weights(plain), weights(saving))


def test_an_unknown_fold_lists_the_known_ones(toy):
    with pytest.raises(GdmError, match="expected: 0, 1, all"):
        loop_of(toy, Short, fold=7)
    assert loop_of(toy, Short, fold="all").data.training == tuple(f"case_{i}" for i in range(4))


def test_no_thread_outlives_the_loader(toy):
    before = set(threading.enumerate())
    loop_of(toy, Short).train(1)
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(timeout=5)
    assert [thread.name for thread in left if thread.is_alive()] == []


@pytest.mark.parametrize("name", named_trainers())
@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_every_trainer_takes_steps_that_change_its_weights(toy, name, configuration):
    overrides = {"iterations": "2", "iterations_per_epoch": "2", "validation_patches": "2"}
    if named_trainers()[name].settings().get("bank_patches"):
        overrides["bank_patches"] = "2"
    loop = loop_of(toy, named_trainers()[name].derive(overrides), configuration)
    before = weights(loop)
    loop.train(0)
    assert any(not torch.equal(value, before[key]) for key, value in weights(loop).items())


def test_one_case_alone_can_only_be_trained_on_all(toy):
    plans, folders = toy
    alone = dataclasses.replace(plans, folds=())
    with pytest.raises(GdmError, match="take fold all"):
        loop_of((alone, folders), Short, fold=0)
    assert loop_of((alone, folders), Short, fold="all").data.training
