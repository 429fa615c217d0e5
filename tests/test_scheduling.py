"""Cases on a Dask scheduler: every case once in the results, whatever dies; errors and files as without it."""

import concurrent.futures
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gdmunet.errors import GdmError
from gdmunet.scheduling import own_share, share_out
from gdmunet.workers import on_scheduler, run_in_workers

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gdmunet[dask]'")
pytestmark = [pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]  # dask's own, in its threads

CASES = 24


def written(number, folder):
    """A case's file; the first try of one case waits until its worker is killed."""
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    if number == 5 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    (folder / f"{number}.txt").write_text(f"content {number}")
    return 2 * number


def fails_on_two(number):
    if number == 2:
        raise GdmError("the volume is empty", file="two.nii.gz", remedy="leave it out")
    if number == 3:
        raise ZeroDivisionError("a fault of the code")
    return number


def slow(number, folder):
    (folder / f"{number}.done").touch()
    time.sleep(0.5)


def dies(_):
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def cluster(workers, folder):
    """A scheduler and its workers as a user starts them; gives the address and the scheduler's process."""
    file = folder / "scheduler.json"
    found = os.pathsep.join([str(Path(__file__).parent), *sys.path])  # this file's functions, and gdmunet
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    quiet["env"] = os.environ | {"PYTHONPATH": found}
    base = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    started = [subprocess.Popen([*base, *where, "--scheduler-file", str(file)], **quiet)]
    try:
        limit = time.monotonic() + 120
        while not file.is_file() or not file.read_text().strip():
            assert started[0].poll() is None
            assert time.monotonic() < limit
            time.sleep(0.1)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-dashboard"]
        started += [
            subprocess.Popen([*worker, "--nthreads", "1", "--nanny", "--death-timeout", "60"], **quiet)
            for _ in range(workers)
        ]
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=180)
            address = client.scheduler.address
        yield address, started[0]
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with cluster(3, tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


def test_a_killed_worker_costs_a_retry_of_its_case_and_the_bar_counts_cases(three, tmp_path, capsys):
    items = [(f"case_{number}", (number, tmp_path)) for number in range(CASES)]
    with on_scheduler(three):
        results = run_in_workers(written, items, 1, True, "writing")
    assert results == [2 * number for number in range(CASES)]
    assert (tmp_path / "killed").exists()
    for number in range(CASES):
        assert (tmp_path / f"{number}.txt").read_text() == f"content {number}"
    pids = {(tmp_path / f"{number}.pid").read_text() for number in range(CASES)}
    assert len(pids) > 1
    assert str(os.getpid()) not in pids
    assert f"writing: {CASES}/{CASES}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1, 2), ["the volume is empty", "case: case_2", "file: two.nii.gz", "leave it out"]),
        ((1, 3), ["case: case_3", "ZeroDivisionError: a fault of the code", "fault of gdmunet"]),
    ],
)
def test_errors_of_a_case_are_those_of_a_worker_process(three, numbers, words):
    with on_scheduler(three), pytest.raises(GdmError) as error:
        run_in_workers(fails_on_two, [(f"case_{number}", (number,)) for number in numbers], 2, False, "failing")
    for word in words:
        assert word in str(error.value)


def whose(content, folder):
    """A case that takes as long as another command needs to ask for one of the same name."""
    (folder / content).touch()
    for _ in range(200):
        if len(list(folder.iterdir())) == 2:
            break
        time.sleep(0.05)
    return content


def test_two_commands_with_cases_of_one_name_get_their_own_results(three, tmp_path):
    def ask(content):
        with on_scheduler(three):
            return run_in_workers(whose, [("case_0", (content, tmp_path))], 1, False, "same title")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, ["mine", "yours"])) == [["mine"], ["yours"]]


def read_relative(name):
    return Path(name).read_text()


def test_a_relative_path_is_that_of_the_command(three, tmp_path, monkeypatch):
    (tmp_path / "here.txt").write_text("content")
    monkeypatch.chdir(tmp_path)
    with on_scheduler(three):
        assert run_in_workers(read_relative, [("case_0", ("here.txt",))], 1, False, "reading") == ["content"]


def test_a_case_that_kills_every_worker_is_named(three):
    with on_scheduler(three), pytest.raises(GdmError, match="the workers of a case died") as error:
        run_in_workers(dies, [("case_9", (9,))], 2, False, "dying")
    assert error.value.case == "case_9"
    assert "one after another" in error.value.found


def test_a_scheduler_that_goes_away_is_said_and_finished_cases_stay(tmp_path):
    with cluster(1, tmp_path) as (address, process):
        items = [(f"case_{number}", (number, tmp_path)) for number in range(200)]

        class Killing:
            """A bar that kills the scheduler once a case has been counted."""

            def __init__(self, *_):
                self.title = "slow"

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def step(self, *_):
                process.kill()

        with pytest.MonkeyPatch.context() as patch, on_scheduler(address):
            patch.setattr("gdmunet.workers.Progress", Killing)
            patch.setattr("gdmunet.scheduling._CONNECT", 5)
            with pytest.raises(GdmError, match="the scheduler has gone while cases were worked on"):
                run_in_workers(slow, items, 1, False, "slow")
    assert list(tmp_path.glob("*.done"))


def test_a_scheduler_that_is_not_there_is_said():
    with on_scheduler("tcp://127.0.0.1:1"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("gdmunet.scheduling._CONNECT", 1)
        with pytest.raises(GdmError, match="the scheduler does not answer") as error:
            run_in_workers(fails_on_two, [("case_1", (1,))], 1, False, "nowhere")
    assert "dask scheduler" in error.value.remedy
    with on_scheduler("local:many"), pytest.raises(GdmError, match="'many' is not a number of workers"):
        run_in_workers(fails_on_two, [("case_1", (1,))], 1, False, "nowhere")


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with on_scheduler("local:1"), pytest.raises(GdmError, match="Dask is not installed") as error:
        run_in_workers(fails_on_two, [("case_1", (1,))], 1, False, "nowhere")
    assert "gdmunet[dask]" in error.value.remedy


def two_gpus():
    return ("first", "second")


def three_gpus():
    return ("first", "second", "third")


def own_gpu(seen, folder, name):
    """The worker and its GPU; waits until two workers are at it."""
    (folder / name).touch()
    for _ in range(400):
        if len(list(folder.iterdir())) > 1:
            break
        time.sleep(0.05)
    return os.getpid(), own_share(seen, "GPU")


def test_each_worker_of_a_machine_has_a_gpu_of_its_own(three, tmp_path):
    items = [(name, (three_gpus, tmp_path, name)) for name in "abcdefgh"]
    with on_scheduler(three):
        found = run_in_workers(own_gpu, items, 1, False, "asking")
    by_worker = dict(found)
    assert len(by_worker) > 1
    assert len(set(found)) == len(by_worker) == len(set(by_worker.values()))


def test_more_workers_than_gpus_are_refused(three, tmp_path):
    items = [(name, (two_gpus, tmp_path, name)) for name in "abcdefgh"]
    with on_scheduler(three), pytest.raises(GdmError, match="a worker has no GPU of its own") as error:
        run_in_workers(own_gpu, items, 1, False, "asking")
    assert "3 workers on 127.0.0.1, which see 2" in error.value.found


def test_workers_that_see_one_gpu_each_keep_it():
    assert share_out({"a": ("0", "1"), "b": ("0",), "c": ("2",)}) == {"a": "1", "b": "0", "c": "2"}
    assert share_out({"a": ("0",), "b": ("0",)}) == {"a": "0"}


def test_functions_travel_by_name_and_the_scheduler_need_not_import_what_they_are_of(three):
    """What the scheduler would import for a prediction takes so long that it forgets its clients."""
    assert len(pickle.dumps(written)) < 100
    with on_scheduler(three):
        assert run_in_workers(read_relative, [("case_0", (__file__,))], 1, False, "reading")[0].startswith('"""Cases')
    with distributed.Client(three, set_as_default=False) as client:
        assert Path(__file__).stem not in client.run_on_scheduler(lambda: list(sys.modules))


def test_cases_beyond_those_that_a_scheduler_holds_come_in_their_order(three, monkeypatch):
    monkeypatch.setattr("gdmunet.scheduling._AHEAD", 2)
    items = [(f"case_{number}", (number,)) for number in range(40) if number not in (2, 3)]
    with on_scheduler(three):
        assert run_in_workers(fails_on_two, items, 1, False, "counting") == [number for _, (number,) in items]
