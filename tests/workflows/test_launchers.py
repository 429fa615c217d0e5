"""gdm_train by torchrun and by srun's variables: one training, one voice, one end."""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from test_train import SHORT, folders, request  # noqa: F401
from test_train_processes import journal, plain  # noqa: F401

from gdmunet.errors import QUEUE_AGAIN, GdmError
from gdmunet.paths import StartedProcess
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.train import train
from gdmunet.workflows.training_run import Run, check_launch, check_run

LONG = SHORT | {"iterations_per_epoch": "100000"}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def started(words, asked, folders, environment=None):  # noqa: F811
    """A process that runs gdm_train, after the words of its launcher."""
    places = {name: getattr(folders, name) for name in ("raw", "preprocessed", "results")}
    flags = [word for name, folder in places.items() for word in (f"--{name}", str(folder))]
    return subprocess.Popen(
        [sys.executable, *words, "-m", "gdmunet.cli.train", *command_line(asked).words[1:], *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    )


@contextlib.contextmanager
def slurm(asked, folders, size=2, words=()):  # noqa: F811
    """The tasks of a step on one machine; none outlives the test."""
    names = {"SLURM_NTASKS": size, "SLURM_JOB_ID": 7, "SLURM_NODELIST": "localhost", "MASTER_PORT": free_port()}
    processes = [
        started(words, asked, folders, {name: str(value) for name, value in (names | own).items()})
        for own in ({"SLURM_PROCID": number, "SLURM_LOCALID": number} for number in range(size))
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def until(condition, processes):
    limit = time.monotonic() + 200
    while not condition():
        assert all(process.poll() is None for process in processes), [process.communicate() for process in processes]
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_torchrun_on_two_nodes_gives_the_losses_of_one_process(plain):  # noqa: F811
    alone = train(request(), plain)
    rows = journal(alone)
    nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    processes = [
        started(
            ["-m", "torch.distributed.run", *nodes, "--node-rank", str(k), "--local-addr", f"127.0.0.{k + 1}"],
            request(overwrite=True),
            plain,
        )
        for k in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(text[-4000:] for text in said)
    assert sum(text.count("model: ") for text in said) == 1
    assert sum(text.count("settings that differ") for text in said) == 1
    for row, other in zip(rows, journal(alone), strict=True):
        assert other["loss_fidelity"] == pytest.approx(row["loss_fidelity"], rel=1e-5)
        assert other["validation_mae"] == pytest.approx(row["validation_mae"], rel=1e-3)


def test_tasks_of_srun_save_for_their_next_turn_and_end_with_one_that_is_killed(folders):  # noqa: F811
    asked = request(settings=LONG, continue_training="auto")
    folder = Run.of(asked, folders).folder
    with slurm(asked, folders) as processes:
        until(lambda: folder.log.is_file() and "to go" in folder.log.read_text(), processes)
        time.sleep(1)
        for process in processes:
            process.send_signal(signal.SIGUSR1)
        said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [QUEUE_AGAIN] * 2, said
    assert sum(text.count("stopped by SIGUSR1") for text in said) == 1
    saved = torch.load(folder.resume)["iteration"]
    assert saved > 0
    with slurm(asked, folders) as processes:
        until(lambda: f"{100000 - saved} iterations to go" in folder.log.read_text(), processes)
        began = time.monotonic()
        processes[1].kill()
        last, _ = processes[0].communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert processes[0].returncode == 1
    assert "a training process died" in last
    assert f"process 2 of 2 on {socket.gethostname()} is gone without a word" in last
    assert "Traceback" not in last
    assert not folder.running.exists()


SLOW_DISK = """
import sys
import time
from gdmunet.cli.train import main
from gdmunet.training.loop import validation

save = validation.save_summary
validation.save_summary = lambda *given: (time.sleep(3), save(*given))
sys.exit(main(sys.argv[3:]))
"""


def test_no_process_counts_what_the_first_one_still_writes(folders):  # noqa: F811
    with slurm(request(), folders, words=["-c", SLOW_DISK]) as processes:
        said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said


SLOW = """
import time
from gdmunet.training.trainers.fidelity import FidelityTrainer


class Slow(FidelityTrainer):
    def loss_terms(self, batch, prediction):
        time.sleep(0.25)
        return super().loss_terms(batch, prediction)
"""


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_training_goes_on_with_another_number_of_processes(plain, tmp_path, first, then):  # noqa: F811
    """Stopped after its first epoch, its later ones have the losses of the training that one process did at once."""
    (tmp_path / "slow.py").write_text(SLOW)
    asked = request(
        settings=SHORT | {"epochs": "3", "iterations_per_epoch": "4"}, trainer=f"{tmp_path / 'slow.py'}:Slow"
    )
    rows = journal(train(asked, plain))
    folder = Run.of(asked, plain).folder
    shutil.rmtree(folder.path)
    process = started([], dataclasses.replace(asked, num_gpus=first), plain)
    try:
        until(lambda: folder.log.is_file() and "epoch 1/3" in folder.log.read_text(), [process])
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), said
    done = torch.load(folder.resume)["iteration"]
    assert 4 <= done < 12
    train(dataclasses.replace(asked, continue_training="latest", num_gpus=then), plain)
    assert f"{12 - done} iterations to go" in folder.log.read_text()
    for row, other in zip(rows, journal(folder.path.parent), strict=True):
        assert other["iteration"] == row["iteration"]
        assert other["loss_fidelity"] == pytest.approx(row["loss_fidelity"], rel=1e-5)


def test_what_a_launcher_started_is_not_ignored(folders):  # noqa: F811
    asked = request()
    run = Run.of(asked, folders)
    place = StartedProcess("torchrun", 1, 3, 1, "127.0.0.1", 29500)
    with pytest.raises(GdmError, match="a batch of 2 cannot be shared by 3 processes") as error:
        check_run(run, place)
    assert "3 processes, started by torchrun" in str(error.value)
    check_run(run, dataclasses.replace(place, size=2))
    with pytest.raises(GdmError, match="another number of processes than -num_gpus"):
        check_launch(request(num_gpus=2), place)
    check_launch(request(num_gpus=3), place)
