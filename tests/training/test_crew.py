"""The parent of several processes: one error, whoever meets it, and no process that waits for one that is gone."""

import os
import signal
import time

import psutil
import pytest
import torch
import torch.distributed as dist

from gdmunet.errors import CommandLine, GdmError, Stopped
from gdmunet.training import distributed
from gdmunet.training.crew import run_crew
from gdmunet.training.loop.interruption import Interruption


def work(place, ready, kind, folder):
    """Meets once; then something happens to the second process, for which the first one waits."""
    (folder / f"{place.number}.pid").write_text(str(os.getpid()))
    ready()
    dist.all_reduce(torch.ones(1))
    if place.number == 1 and kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if place.number == 1 and kind == "error":
        raise GdmError("the case is damaged", case="case_1", command=CommandLine("gdm_preprocess", "-d", 1))
    if place.number == 1 and kind == "fault":
        raise ZeroDivisionError("a fault of the code")
    if kind == "signal":
        with Interruption(led=True) as interruption:
            if place.number == 0:
                os.kill(os.getppid(), signal.SIGTERM)
            while not distributed.any_rank(interruption.wanted)[0]:
                time.sleep(0.02)
            interruption.stop()
    dist.all_reduce(torch.ones(1))


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("killed", GdmError, "a training process died[\\s\\S]*process 2 of 2 was killed by SIGKILL"),
        ("error", GdmError, "^the case is damaged\n  case: case_1\n  remedy: run gdm_preprocess -d 1$"),
        ("fault", RuntimeError, "in work[\\s\\S]*ZeroDivisionError: a fault of the code"),
        ("signal", Stopped, "stopped by SIGTERM"),
    ],
)
def test_the_end_of_one_process_is_that_of_all_and_said_once(tmp_path, capfd, kind, error, words):
    begun = []
    started = time.monotonic()
    with pytest.raises(error, match=words):
        run_crew(work, (kind, tmp_path), 2, "cpu", lambda: begun.append(len(list(tmp_path.iterdir()))))
    assert time.monotonic() - started < 60
    assert begun == [2]  # once, and not before both were ready
    for file in tmp_path.glob("*.pid"):
        assert not psutil.pid_exists(int(file.read_text()))
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert said.err.count("stopping after this step") == (kind == "signal")


def test_a_process_whose_parent_is_gone_stops(monkeypatch):
    interruption = Interruption(led=True)
    assert not interruption.wanted
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert interruption.wanted
    with pytest.raises(Stopped, match="SIGTERM"):
        interruption.stop()


def test_a_led_process_leaves_the_second_signal_to_its_parent():
    with Interruption(led=True) as interruption:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested == signal.SIGTERM
