"""gdm_train by several processes: refusals before anything is touched, one error, shared validation, deaths."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from short_trainers import loop_of, short, without_norm
from test_train import SHORT, folders, request  # noqa: F401
from toy import toy_network

from gdmunet.checkpoint import CheckpointMetadata, load_weights, save_weights
from gdmunet.errors import GdmError
from gdmunet.networks import build_network
from gdmunet.serialization import save_json
from gdmunet.training import distributed
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.loop.validation import validate_fold
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.workflows.train import train
from gdmunet.workflows.training_run import Run


@pytest.fixture
def plain(toy, folders):  # noqa: F811
    """Networks whose patches do not know each other: two processes give the numbers of one."""
    plans, _ = without_norm(toy)
    save_json(plans, folders.preprocessed / plans.dataset_name / "gdmPlans.json")
    return folders


def whole(folder):
    """Every file of a folder and its content."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_processes_train_validate_and_journal_as_one(plain, capfd):
    one = train(request(), plain)
    before, rows = whole(one / "fold_0"), journal(one)
    weights = load_weights(one / "fold_0" / "checkpoint_final.safetensors").state_dict
    train(request(num_gpus=2, overwrite=True), plain)
    assert torch.load(one / "fold_0" / "resume.pt")["iteration"] == 3
    shared = load_weights(one / "fold_0" / "checkpoint_final.safetensors").state_dict
    for name, value in weights.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-4)
    for row, other in zip(rows, journal(one), strict=True):
        assert set(row) == set(other)
        for key in ("iteration", "loss_fidelity", "gradient_norm", "validation_mae"):
            assert other[key] == pytest.approx(row[key], rel=1e-3), key
    assert set(before) == set(whole(one / "fold_0"))
    assert sorted(path.name for path in one.iterdir()) == ["fold_0", "plans.json"]
    train(request(continue_training="latest"), plain)  # on fewer than before
    said = capfd.readouterr()
    assert said.out.count("3 iterations to go") == 2
    assert "Traceback" not in said.err


def journal(model):
    return [json.loads(line) for line in (model / "fold_0" / "journal.jsonl").read_text().splitlines()]


OLD = {"checkpoint_final.safetensors": "old weights", "resume.pt": "old state", "journal.jsonl": "", "mine.txt": "mine"}


def trained_before(asked, folders):  # noqa: F811
    """A fold that looks trained; gives its folder."""
    folder = Run.of(asked, folders).folder
    folder.path.mkdir(parents=True)
    for name, text in OLD.items():
        (folder.path / name).write_text(text)
    return folder


def is_whole(folder):
    found = {path.name: path.read_text() for path in folder.path.iterdir() if path.name in OLD}
    return found == OLD and not folder.previous.path.exists() and not folder.running.exists()


def no_process(*_):
    raise AssertionError("a process was started")


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        ({"num_gpus": 3}, "a batch of 2 cannot be shared by 3 processes", "-num_gpus 2"),
        ({"num_gpus": 4, "device": None}, "more GPUs were asked for than there are", "gdm_train 901 3d_fullres"),
        ({"trainer": "BridgeTrainer", "settings": SHORT | {"source_channel": "4"}}, "not a condition channel", None),
        ({"trainer": "GDMTrainer", "settings": SHORT | {"drift_levels": "nothing"}}, "has no such level", None),
    ],
)
def test_what_is_refused_leaves_the_trained_fold_whole(folders, monkeypatch, changes, problem, remedy):  # noqa: F811
    monkeypatch.setattr("gdmunet.workflows.train.run_crew", no_process)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    asked = request(overwrite=True, **changes)
    folder = trained_before(asked, folders)
    with pytest.raises(GdmError, match=problem) as error:
        train(asked, folders)
    assert is_whole(folder)
    assert remedy is None or remedy in str(error.value.command)
    assert "-num_gpus 4" not in str(error.value.command)


def test_raw_files_are_missed_before_the_training_and_not_after_it(folders):  # noqa: F811
    asked = request(overwrite=True)
    folder = trained_before(asked, folders)
    folders.raw.rename(folders.raw.with_name("elsewhere"))
    with pytest.raises(GdmError):
        train(asked, folders)
    assert is_whole(folder)


def test_weights_of_another_network_are_refused_before_the_fold_is_touched(folders, tmp_path):  # noqa: F811
    spec = toy_network(2)
    weights = build_network(spec).state_dict()
    save_weights(tmp_path / "other.safetensors", weights, spec, CheckpointMetadata("T", "p", "2d", "0", 1, 1))
    asked = request(overwrite=True, pretrained_weights=tmp_path / "other.safetensors")
    folder = trained_before(asked, folders)
    with pytest.raises(GdmError, match="belong to another network"):
        train(asked, folders)
    assert is_whole(folder)


def test_a_damaged_case_is_one_error_before_a_process_starts(folders, monkeypatch):  # noqa: F811
    monkeypatch.setattr("gdmunet.workflows.train.run_crew", no_process)
    asked = request(overwrite=True, num_gpus=2)
    folder = trained_before(asked, folders)
    for file in (folders.preprocessed / "Dataset901_Toy" / "gdmPlans_3d_fullres").glob("*.b2nd"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(GdmError, match="damaged") as error:
        train(asked, folders)
    assert error.value.case.startswith("case_")
    assert is_whole(folder)


def test_a_run_that_was_killed_before_its_first_checkpoint_is_noticed_by_the_next(folders, capsys):  # noqa: F811
    asked = request(overwrite=True, settings=SHORT | {"iterations_per_epoch": "100000"})
    folder = trained_before(asked, folders)
    script = (
        "import pickle, sys; from gdmunet.workflows.train import train; train(*pickle.load(open(sys.argv[1], 'rb')))"
    )
    (folders.results / "asked.pickle").write_bytes(pickle.dumps((asked, folders)))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folders.results / "asked.pickle")],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    limit = time.monotonic() + 120
    while not folder.log.is_file():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert folder.previous.path.is_dir()
    with pytest.raises(GdmError, match="trained already"):
        train(dataclasses.replace(asked, overwrite=False), folders)
    assert "the earlier training is back" in capsys.readouterr().out
    assert is_whole(folder)


SECOND_FAILS = """
from gdmunet.errors import GdmError
from gdmunet.training import distributed
from gdmunet.training.trainers.fidelity import FidelityTrainer


class SecondFails(FidelityTrainer):
    def loss_terms(self, batch, prediction):
        if distributed.rank() == 1:
            raise GdmError("the loss is not a number", remedy="a smaller learning rate")
        return super().loss_terms(batch, prediction)
"""


def test_an_error_of_one_of_several_processes_brings_the_earlier_training_back(folders, tmp_path, capfd):  # noqa: F811
    """It fails in the first step, when the earlier training has been set aside and the new one has no checkpoint."""
    (tmp_path / "second.py").write_text(SECOND_FAILS)
    asked = request(overwrite=True, num_gpus=2, trainer=f"{tmp_path / 'second.py'}:SecondFails")
    folder = trained_before(asked, folders)
    with pytest.raises(GdmError, match="the loss is not a number"):
        train(asked, folders)
    said = capfd.readouterr()
    assert "the earlier training is back" in said.out
    assert "Traceback" not in said.err
    assert is_whole(folder)
    assert not folder.log.exists()


def test_validation_is_shared_case_by_case_and_put_together(folders, monkeypatch):  # noqa: F811
    run = Run.of(request(), folders)
    save_json(run.plans, run.model.plans)
    open_loop(run.kind, run.data, folders, run.device, show_progress=False).save("final")
    data = dataclasses.replace(run.data, validation=("case_0", "case_2", "case_3"))
    arguments = (data, run.folder, "final", folders, run.device, False)
    alone = validate_fold(*arguments)
    shutil.rmtree(run.folder.validation())
    answers, written = {}, {}
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for number in (1, 0):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        monkeypatch.setattr(distributed, "gather", lambda value, number=number: gathered(answers, number, value))
        before = {path.name for path in run.folder.validation().glob("*")}
        together = validate_fold(*arguments)
        written[number] = {path.name for path in run.folder.validation().glob("*")} - before
    assert written == {
        1: {"case_2.nii.gz"},
        0: {"case_0.nii.gz", "case_3.nii.gz", "prediction_settings.json", "summary.json"},
    }
    assert together == alone


def gathered(answers, number, value):
    answers[number] = value
    return list(answers.values())


def test_a_bank_of_one_process_is_filled_anew_by_several(toy, monkeypatch):
    one = loop_of(toy, short(GDMTrainer))
    one.train(0)
    extra = one.trainer.extra_state()
    assert extra["bank"]
    other = loop_of(toy, short(GDMTrainer))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    other.trainer.load_extra_state(extra)
    assert not any(other.trainer.force.bank.sizes.values())
