"""Trackers hear what the journal holds, and never stop a training."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import types
import urllib.request

import pytest
from short_trainers import loop_of

from gdmunet.errors import GdmError
from gdmunet.results import FoldFolder
from gdmunet.training.loop import trackers
from gdmunet.training.loop.journal import Journal
from gdmunet.training.loop.trackers import TrackedRun, Trackers, wanted_trackers
from gdmunet.training.trainers.fidelity import FidelityTrainer

ROWS = [{"epoch": n, "iteration": 4 * n, "loss_fidelity": 1.0 / (n + 1), "unit": "HU", "best": None} for n in range(3)]


class Remembering:
    def __init__(self, run):
        self.run, self.heard = run, []

    def record(self, epoch, numbers):
        self.heard.append((epoch, dict(numbers)))


class FailingLater(Remembering):
    def record(self, epoch, numbers):
        if epoch == 1:
            raise ConnectionError("the server is gone\nand more")
        super().record(epoch, numbers)


def failing(_run):
    raise RuntimeError("no key")


@pytest.fixture
def run(tmp_path):
    folder = FoldFolder(tmp_path / "Dataset901_Toy" / "FidelityTrainer__gdmPlans__2d" / "fold_0")
    folder.path.mkdir(parents=True)
    return TrackedRun(folder, {"epochs": 2, "precision": "auto"})


def test_a_training_tells_its_trackers_what_its_journal_holds(toy, monkeypatch):
    settings = {"epochs": 2, "iterations_per_epoch": 2, "validation_patches": 2}
    loop = loop_of(toy, type("Short", (FidelityTrainer,), {"__module__": __name__, **settings}), "2d")
    monkeypatch.setattr(trackers, "TRACKERS", {"a": Remembering, "b": FailingLater, "c": failing})
    told = Trackers(("a", "b", "c"), TrackedRun(loop.folder, {}), loop.journal.say)
    a, b = told._open.values()
    loop.journal.listeners.append(told.record)
    loop.train(0)
    rows = loop.journal.rows()
    assert [epoch for epoch, _ in a.heard] == [row["epoch"] for row in rows] == [0, 1]
    assert all(
        numbers["loss_fidelity"] == row["loss_fidelity"] for (_, numbers), row in zip(a.heard, rows, strict=True)
    )
    assert [epoch for epoch, _ in b.heard] == [0]
    log = loop.folder.log.read_text()
    assert "tracker c failed and is left out: RuntimeError: no key" in log
    assert "tracker b failed and is left out: ConnectionError: the server is gone\n" in log


def test_only_numbers_are_sent(run, monkeypatch):
    monkeypatch.setattr(trackers, "TRACKERS", {"a": Remembering})
    told = Trackers(("a",), run, pytest.fail)
    told.record(ROWS[1])
    assert told._open["a"].heard == [(1, {"loss_fidelity": 0.5})]


def test_a_journal_tells_its_listeners(run):
    journal, heard = Journal(run.folder, speak=False), []
    journal.listeners.append(heard.append)
    journal.record(ROWS[0])
    assert heard == ROWS[:1]
    assert len(journal.rows()) == 1


def test_a_run_is_known_again_by_a_continued_training_and_not_by_a_new_one(run):
    assert run.known("wandb") is None
    run.remember("wandb", "abc")
    run.remember("mlflow", "def")
    again = TrackedRun(run.folder, {})
    assert (again.known("wandb"), again.known("mlflow")) == ("abc", "def")
    assert run.folder.tracked_runs in run.folder.made_by_training()


def test_a_tracker_that_is_missing_is_said_before_training(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert wanted_trackers(()) == ()
    with pytest.raises(GdmError, match=r"gdmunet\[mlflow\]"):
        wanted_trackers(("mlflow",))


def test_the_mlflow_tracker_goes_on_in_its_run(run, monkeypatch):
    """Against a stand-in for its client; the real one below."""
    calls = []
    client = types.SimpleNamespace(
        get_experiment_by_name=lambda _name: None,
        create_experiment=lambda name: calls.append(("experiment", name)) or "1",
        create_run=lambda *_words, **_named: types.SimpleNamespace(info=types.SimpleNamespace(run_id="r")),
        log_param=lambda *words: calls.append(("param", *words)),
        log_metric=lambda *words, step: calls.append(("metric", *words, step)),
    )
    module = types.SimpleNamespace(MlflowClient=lambda: client)
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", module)
    Trackers(("mlflow",), run, pytest.fail).record(ROWS[0])
    Trackers(("mlflow",), run, pytest.fail).record(ROWS[1])
    assert calls == [
        ("experiment", "Dataset901_Toy"),
        ("param", "r", "epochs", "2"),
        ("param", "r", "precision", "auto"),
        ("metric", "r", "loss_fidelity", 1.0, 0),
        ("metric", "r", "loss_fidelity", 0.5, 1),
    ]


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs the extra mlflow")
def test_mlflows_own_store_holds_the_curve(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for rows in (ROWS[:2], ROWS[1:]):
        told = Trackers(("mlflow",), run, pytest.fail)
        for row in rows:
            told.record(row)
    from mlflow.tracking import MlflowClient

    history = MlflowClient().get_metric_history(run.known("mlflow"), "loss_fidelity")
    assert {(one.step, one.value) for one in history} == {(0, 1.0), (1, 0.5), (2, 1 / 3)}
    assert MlflowClient().get_run(run.known("mlflow")).data.params == {"epochs": "2", "precision": "auto"}


@pytest.fixture
def server(tmp_path):
    """Address of MLflow's own server on this machine, over a database of SQLite."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--backend-store-uri", store, "--default-artifact-root", str(tmp_path / "files")],
            stdout=log, stderr=log, cwd=tmp_path, env=environment, start_new_session=True,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(500):
                if process.poll() is not None:
                    pytest.fail((tmp_path / "server.log").read_text())
                try:
                    with urllib.request.urlopen(f"{address}/health", timeout=5):
                        break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            os.killpg(process.pid, 15)
            process.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(
    os.name == "nt" or not all(map(importlib.util.find_spec, ("mlflow", "flask"))),
    reason="needs MLflow's server (pip install mlflow)",
)
def test_mlflows_server_shows_the_curve_of_a_training(toy, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    settings = {"epochs": 2, "iterations_per_epoch": 2, "validation_patches": 2}
    loop = loop_of(toy, type("Short", (FidelityTrainer,), {"__module__": __name__, **settings}), "2d")
    told = Trackers(("mlflow",), TrackedRun(loop.folder, {"epochs": 2}), loop.journal.say)
    loop.journal.listeners.append(told.record)
    loop.train(0)
    from mlflow.tracking import MlflowClient

    known = TrackedRun(loop.folder, {}).known("mlflow")
    assert known, loop.folder.log.read_text()
    history = MlflowClient(tracking_uri=server).get_metric_history(known, "loss_fidelity")
    assert {one.step: one.value for one in history} == {
        row["epoch"]: row["loss_fidelity"] for row in loop.journal.rows()
    }


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs the extra wandb")
def test_wandb_writes_its_files_without_a_network(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    told = Trackers(("wandb",), run, pytest.fail)
    for row in ROWS:
        told.record(row)
    import wandb

    wandb.finish()
    assert list(run.folder.wandb.glob("offline-run-*/run-*.wandb"))
    assert json.loads(run.folder.tracked_runs.read_text())["runs"]["wandb"]
