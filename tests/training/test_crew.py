"""The parent of several processes: one error, whoever meets it, and no process that waits for one that is gone."""

import os
import signal
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from gdmunet.errors import CommandLine, GdmError, Stopped
from gdmunet.paths import find_processes
from gdmunet.training import crew, distributed
from gdmunet.training.crew import run_crew
from gdmunet.training.loop.interruption import Interruption


def work(kind, folder):
    """Meets once; then something happens to the second process, for which the first one waits."""
    place = find_processes()
    (folder / f"{place.number}.pid").write_text(str(os.getpid()))
    with distributed.member(place, "cpu"):
        in_the_group(place, kind)


def in_the_group(place, kind):
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
    started = time.monotonic()
    with pytest.raises(error, match=words):
        run_crew(work, (kind, tmp_path), 2)
    assert time.monotonic() - started < 60
    for file in tmp_path.glob("*.pid"):
        assert not psutil.pid_exists(int(file.read_text()))
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert said.err.count("stopping after this step") == (kind == "signal")


def test_a_death_is_the_reason_though_the_launcher_names_the_process_that_ended_after_it(tmp_path, monkeypatch):
    """It looks now and then: if both are gone by then, it names the first by number."""
    launch = crew.elastic_launch

    def late(settings, function):
        def call(*arguments):
            try:
                launch(settings, function)(*arguments)
            except ChildFailedError as error:
                error.failures = {0: SimpleNamespace(exitcode=1)}
                raise

        return call

    monkeypatch.setattr(crew, "elastic_launch", late)
    with pytest.raises(GdmError, match="process 2 of 2 was killed by SIGKILL"):
        run_crew(work, ("killed", tmp_path), 2)


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
