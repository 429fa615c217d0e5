"""Signals to a training in a process of its own: answered at once, called by their names, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

TRAINER = """
import time
from pathlib import Path
from gdmunet.training.trainers.fidelity import FidelityTrainer

class Waiting(FidelityTrainer):
    iterations = 4
    iterations_per_epoch = 4
    validation_patches = 2

    def loss_terms(self, batch, prediction):
        if self.step.iteration == 1:
            Path("within_a_step").touch()
            while not Path("go_on").exists():
                time.sleep(0.05)
        return super().loss_terms(batch, prediction)
"""
COMMAND = "import sys; from gdmunet.cli.train import main; sys.exit(main(sys.argv[1:]))"


@dataclass
class Training:
    """``gdm_train`` in a session of its own, waiting within its second step."""

    process: subprocess.Popen
    folder: Path

    def said(self) -> str:
        return (self.folder / "output").read_text()

    def wait_for(self, seen) -> None:
        limit = time.monotonic() + 120
        while not seen():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < limit, self.said()
            time.sleep(0.05)

    def send(self, number: int) -> None:
        """To every process of the job."""
        os.killpg(self.process.pid, number)

    @property
    def resume(self) -> Path:
        (model,) = (self.folder / "results" / "Dataset901_Toy").iterdir()
        return model / "fold_all" / "resume.pt"


@pytest.fixture
def training(toy, tmp_path):
    _, folders = toy
    (tmp_path / "mine.py").write_text(TRAINER)
    words = ["901", "3d_fullres", "all", "-tr", "mine.py:Waiting", "-device", "cpu", "-np", "1"]
    places = [
        word for name in ("raw", "preprocessed", "results") for word in (f"--{name}", str(getattr(folders, name)))
    ]
    with open(tmp_path / "output", "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words, *places],
            stdout=output, stderr=output, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        running = Training(process, tmp_path)
        try:
            running.wait_for((tmp_path / "within_a_step").exists)
            yield running
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(
    ("number", "name", "status"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_a_signal_is_answered_within_the_step_and_the_run_saved_after_it(training, number, name, status):
    training.send(number)
    training.wait_for(lambda: f"{name}: stopping after this step" in training.said())
    (training.folder / "go_on").touch()
    assert training.process.wait(timeout=60) == status
    said = training.said()
    assert said.count("stopping after this step") == 1
    assert f"stopped by {name}" in said
    assert "Traceback" not in said
    assert "Error" not in said
    assert ("Ctrl-C" in said) == (number == signal.SIGINT)
    assert torch.load(training.resume, weights_only=True)["iteration"] == 2


def test_the_second_signal_stops_at_once(training):
    training.send(signal.SIGINT)
    training.wait_for(lambda: "stopping after this step" in training.said())
    training.send(signal.SIGINT)
    assert training.process.wait(timeout=60) == 130
    assert not training.resume.exists()
