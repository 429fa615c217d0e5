"""Prediction by the workers of a Dask scheduler: the files of a run without one, also if a worker is killed."""

import gzip
import os
import pickle
import signal
import threading
import time

import numpy as np
import psutil
import pytest
from prediction_samples import SPACING, make_head, make_model
from test_scheduling import cluster

from gdmunet import workers
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.paths import Folders
from gdmunet.workers import on_scheduler
from gdmunet.workflows.predict import predict
from gdmunet.workflows.requests.prediction import PredictRequest

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'gdmunet[dask]'")
pytestmark = [pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]  # dask's own, in its threads
NAMES = tuple("abcdefgh")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The request of a prediction of eight heads, by relative paths, and its folders."""
    make_model(tmp_path / "results")
    for seed, name in enumerate(NAMES):
        head = make_head(seed=seed).astype(np.int16)
        write_volume(tmp_path / "in" / f"{name}_0000.nii.gz", head, Geometry(head.shape, SPACING))
    monkeypatch.chdir(tmp_path)
    folders = Folders(tmp_path / "raw", tmp_path / "pre", tmp_path / "results")

    def run(output, scheduler=None, **more):
        request = PredictRequest(
            input=("in",), output=output, device="cpu", show_progress=False, scheduler=scheduler, step_size=1.0, **more
        )
        with on_scheduler(scheduler):
            return predict(request, folders)

    return run


def contents(folder):
    return {path.name: gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*.nii.gz"))}


def kill_the_worker_that_is_first(folder, pids):
    """Kill a worker as soon as a prediction lies there."""
    while not list(folder.glob("*.nii.gz")):
        time.sleep(0.01)
    os.kill(next(filter(psutil.pid_exists, pids)), signal.SIGKILL)


def test_a_killed_worker_costs_a_retry_and_every_case_is_predicted_once(asked, tmp_path):
    import distributed

    asked("alone")
    with cluster(3, tmp_path) as (address, _):
        with distributed.Client(address, set_as_default=False) as client:
            pids = list(client.run(os.getpid).values())
        killer = threading.Thread(target=kill_the_worker_that_is_first, args=(tmp_path / "shared", pids), daemon=True)
        killer.start()
        done = asked("shared", address)
        killer.join(60)
        assert not killer.is_alive()
        assert tuple(sorted(done.predicted)) == NAMES
        assert done.skipped == ()
        assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
        assert (tmp_path / "shared/prediction_settings.json").is_file()
        # Again, with a folder that has grown: what a worker keeps is of one run.
        write_volume(tmp_path / "in/i_0000.nii.gz", make_head(seed=9).astype(np.int16), Geometry((20, 22, 24), SPACING))
        again = asked("shared", address, continue_prediction=True)
        assert (tuple(again.predicted), again.skipped) == (("i",), NAMES)


def test_a_scheduler_carries_no_volume_of_a_prediction(asked, monkeypatch):
    sizes = []

    def scheduler(work, items, *_):
        for index, (_, arguments) in enumerate(items):
            answer = work(*arguments)
            sizes.append(len(pickle.dumps((work, arguments, answer))))
            yield index, answer

    monkeypatch.setattr(workers, "run_on_scheduler", scheduler)
    asked("out", "tcp://nowhere")
    assert len(sizes) == len(NAMES)
    assert max(sizes) < 8_000 < make_head().astype(np.int16).nbytes


def add_heads(folder, names, first):
    for seed, name in enumerate(names, first):
        head = make_head(seed=seed).astype(np.int16)
        write_volume(folder / f"{name}_0000.nii.gz", head, Geometry(head.shape, SPACING))


def limit_files(client, worker, limit):
    """Let a worker write no longer files than `limit` bytes: its writes fail as on a full disk."""
    import resource

    client.run(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY), workers=[worker])


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are of POSIX")
def test_a_disk_that_is_full_for_one_worker_ends_the_run_and_the_same_command_ends_the_work(asked, tmp_path):
    import distributed

    with cluster(2, tmp_path) as (address, _):
        assert len(asked("shared", address).predicted) == len(NAMES)
        finished = contents(tmp_path / "shared")
        add_heads(tmp_path / "in", "ijklm", len(NAMES))
        with distributed.Client(address, set_as_default=False) as client:
            worker = next(iter(client.scheduler_info()["workers"]))
            limit_files(client, worker, 500)
            with pytest.raises(GdmError) as error:
                asked("shared", address, continue_prediction=True)
            assert error.value.case in tuple("ijklm")
            assert f"{error.value.case}.nii.gz" in str(error.value.file)
            assert "too large" in str(error.value)
            assert "Traceback" not in str(error.value)
            assert finished.items() <= contents(tmp_path / "shared").items()
            limit_files(client, worker, -1)
        again = asked("shared", address, continue_prediction=True)
        assert set(NAMES) <= set(again.skipped)
        assert {*again.predicted, *again.skipped} == {*NAMES, *"ijklm"}
    asked("alone")
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert not list((tmp_path / "shared").glob(".tmp-*"))


def test_a_scheduler_that_goes_away_in_a_prediction_keeps_its_cases_and_the_same_command_ends_the_work(
    asked, tmp_path, monkeypatch
):
    monkeypatch.setattr("gdmunet.scheduling._CONNECT", 5)
    with cluster(1, tmp_path) as (address, scheduler):

        def kill():
            while not list((tmp_path / "shared").glob("*.nii.gz")):
                time.sleep(0.01)
            scheduler.kill()

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        with pytest.raises(GdmError, match="the scheduler has gone") as error:
            asked("shared", address)
        killer.join(60)
    assert "run the command again" in error.value.remedy
    finished = contents(tmp_path / "shared")
    assert 0 < len(finished) < len(NAMES)
    again = asked("shared", "local:1", continue_prediction=True)
    assert {f"{name}.nii.gz" for name in again.skipped} == set(finished)
    asked("alone")
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
