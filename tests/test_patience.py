"""Every wait has a limit: real processes that are stopped, with short limits."""

import multiprocessing
import os
import signal
import threading
import time

import psutil
import pytest

from gdmunet import ending, patience
from gdmunet.errors import GdmError
from gdmunet.inference.pipeline import Stage
from gdmunet.patience import Patience, processor_time, set_wait_limit, thread_time
from gdmunet.workers import run_in_workers
from gdmunet.workflows.measured_prediction import measure_in_new_process

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes are stopped by a signal of POSIX systems"),
]


@pytest.fixture
def impatient(monkeypatch):
    """A limit of a second and a half in this process."""
    monkeypatch.setattr(patience, "_LIMIT", [1.5])
    return 1.5


def stopped_on_two(value):
    if value == 2:
        os.kill(os.getpid(), signal.SIGSTOP)
    return value


def busy(value):
    begin = time.process_time()
    while time.process_time() - begin < 2.0:
        pass
    return value


@pytest.mark.usefixtures("impatient")
def test_a_stopped_worker_ends_the_run_by_case_and_process():
    with pytest.raises(GdmError, match="a worker process does nothing") as caught:
        run_in_workers(stopped_on_two, [(f"case_{i}", (i,)) for i in range(4)], 2, False, "testing")
    error = caught.value
    assert error.case == "case_2"
    assert "it is stopped, or waits for a disk" in error.found
    assert "GDM_WAIT_LIMIT" in error.remedy
    number = int(error.found.split()[1])
    assert not psutil.pid_exists(number), "the stopped worker is not left behind"


class Hit:
    """Stands for a task; the process that unpacks it is hit by a signal."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return hit, (self.number,)


def hit(number):
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (getattr(signal, "SIGSTOP", 0), "the process that predicts does nothing"),
        (getattr(signal, "SIGKILL", 0), "the process that predicts was killed"),
    ],
)
def test_a_comparison_does_not_wait_for_a_process_that_is_stopped_or_killed(number, problem):
    with pytest.raises(GdmError, match=problem):
        measure_in_new_process(Hit(number))
    assert not multiprocessing.active_children(), "the process is not left behind"


@pytest.mark.usefixtures("impatient")
def test_a_prediction_does_not_wait_for_a_thread_whose_disk_does_not_answer(monkeypatch):
    monkeypatch.setattr(ending, "_ABANDONED", [])  # else the next command of this process would leave it at once
    answers = threading.Event()
    with Stage(1, "read") as stage:
        stage.submit("case_7", answers.wait)
        with pytest.raises(GdmError, match="a thread that should read does nothing") as caught:
            stage.take()
    assert caught.value.case == "case_7"
    assert ending._ABANDONED, "the command ends without waiting for the thread"
    answers.set()


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_computes_is_waited_for():
    assert run_in_workers(busy, [("a", (1,)), ("b", (2,))], 2, False, "testing") == [1, 2]


def test_time_in_which_this_process_was_stopped_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    waiting = Patience(10.0)
    assert waiting.lost([(1, lambda: 5.0)]) == []
    now[0] += 3600  # a batch system had suspended the whole job
    assert waiting.lost([(1, lambda: 5.0)]) == []
    for _ in range(9):
        now[0] += 1
        lost = waiting.lost([(1, lambda: 5.0)])
    assert lost == [1]


def test_signs_of_life():
    assert processor_time(os.getpid()) > 0
    assert processor_time(2**22 + 5) is None
    assert thread_time(None) == 0.0
    with pytest.raises(GdmError, match="not positive"):
        set_wait_limit(0)
