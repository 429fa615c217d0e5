"""Workers give results in order, and no death of one is waited for."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from gdmunet.errors import GdmError
from gdmunet.workers import run_in_workers

pytestmark = pytest.mark.timeout(120)


def double(value):
    time.sleep(0.02 * (value % 3))
    return 2 * value


def threads_used():
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def fail_on_two(value):
    if value == 2:
        raise ValueError("two is too many")
    return value


def user_error_on_two(value):
    if value == 2:
        raise GdmError("the volume is empty", case="case_2", file="two.nii.gz", remedy="leave it out")
    return value


def exit_on_two(value):
    if value == 2:
        os._exit(3)
    time.sleep(0.01)
    return value


def killed_on_two(value):
    if value == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60 if value == 1 else 0)  # the others need not end first
    return value


def big_result(size):
    return b"x" * size


def unpicklable(value):
    return lambda: value


def items(count=5):
    return [(f"case_{i}", (i,)) for i in range(count)]


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_results_come_in_the_order_of_the_items(processes):
    assert run_in_workers(double, items(7), processes, False, "doubling") == [0, 2, 4, 6, 8, 10, 12]


def test_no_items_give_no_results():
    assert run_in_workers(double, [], 2, False, "doubling") == []


def test_results_larger_than_a_pipe_arrive_whole():
    found = run_in_workers(big_result, [("a", (3_000_000,)), ("b", (1,))], 2, False, "large")
    assert [len(value) for value in found] == [3_000_000, 1]


def test_workers_compute_with_one_thread():
    assert run_in_workers(threads_used, [("a", ()), ("b", ())], 2, False, "threads") == [1, 1]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_exception_names_the_case_and_shows_the_traceback_of_the_worker(processes):
    with pytest.raises(GdmError, match="two is too many") as caught:
        run_in_workers(fail_on_two, items(), processes, False, "testing")
    assert "case: case_2" in str(caught.value)
    assert "fail_on_two" in str(caught.value)


def error_that_names_case_10(_value):
    raise GdmError("it differs from case: case_10", found=(1, 2), remedy="compare them")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_case_whose_name_begins_another_is_named(processes):
    with pytest.raises(GdmError) as caught:
        run_in_workers(error_that_names_case_10, [("case_1", (1,)), ("case_10", (10,))], processes, False, "testing")
    error = caught.value
    assert error.case in ("case_1", "case_10")
    assert processes == 2 or error.case == "case_1"
    assert (error.found, error.remedy) == ((1, 2), "compare them")
    assert str(error).splitlines()[1:] == [f"  case: {error.case}", "  found: (1, 2)", "  remedy: compare them"]


class WorkerError(GdmError):
    """Its constructor takes other arguments than the base."""

    def __init__(self, number):
        super().__init__("a number is wrong", found=number)
        self.number = number


def raise_worker_error(value):
    raise WorkerError(value) from KeyError("low")


def test_an_error_of_a_worker_keeps_its_class_and_its_cause():
    with pytest.raises(WorkerError, match="a number is wrong") as caught:
        run_in_workers(raise_worker_error, items(2), 2, False, "testing")
    assert caught.value.number == caught.value.found
    assert caught.value.__notes__ == ["caused by KeyError: 'low'"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_user_error_keeps_its_text_and_has_no_traceback(processes):
    with pytest.raises(GdmError, match="the volume is empty") as caught:
        run_in_workers(user_error_on_two, items(), processes, False, "testing")
    text = str(caught.value)
    assert "two.nii.gz" in text
    assert "leave it out" in text
    assert text.count("case_2") == 1
    assert "Traceback" not in text


def test_a_worker_that_exits_is_seen_and_its_case_is_named():
    with pytest.raises(GdmError, match="exit code 3") as caught:
        run_in_workers(exit_on_two, items(), 2, False, "testing")
    assert "case: case_2" in str(caught.value)


def test_a_killed_worker_ends_the_run_at_once_with_a_remedy():
    begin = time.monotonic()
    with pytest.raises(GdmError, match="SIGKILL") as caught:
        run_in_workers(killed_on_two, items(), 2, False, "testing")
    assert time.monotonic() - begin < 30
    assert "case: case_2" in str(caught.value)
    assert "fewer processes" in str(caught.value)


def test_a_result_that_cannot_be_sent_is_an_error_with_its_case():
    with pytest.raises(GdmError, match="work on a case failed") as caught:
        run_in_workers(unpicklable, items(2), 2, False, "testing")
    assert "unpicklable" in str(caught.value)
    assert "case: case_" in str(caught.value)


def test_after_a_failure_no_worker_is_left():
    with pytest.raises(GdmError):
        run_in_workers(killed_on_two, items(), 3, False, "testing")
    left = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    assert left == []


def test_ctrl_c_ends_the_workers_too(tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import signal, time\n"
        # A background shell hands SIGINT down as ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gdmunet.workers import run_in_workers\n"
        "if __name__ == '__main__':\n"
        "    print('started', flush=True)\n"
        "    run_in_workers(time.sleep, [('a', (600,)), ('b', (600,))], 2, False, 'sleeping')\n"
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"started"
    parent, deadline = psutil.Process(process.pid), time.monotonic() + 60
    while len(parent.children(recursive=True)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    children = parent.children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in messages
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert len(gone) >= 2
    assert alive == []
