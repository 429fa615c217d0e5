"""What a launcher's variables mean, and which contradictions are refused."""

import pytest

from gdmunet.errors import GdmError
from gdmunet.paths import StartedProcess, find_processes

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77"}


def test_a_process_that_was_started_alone_has_no_place():
    assert find_processes({}) is None
    assert find_processes(TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert find_processes(SLURM | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}) is None
    assert find_processes({"SLURM_NTASKS": "8"}) is None  # of salloc, which starts no task


def test_variables_of_torchrun_win_over_those_of_slurm():
    assert find_processes(SLURM | TORCHRUN) == StartedProcess("torchrun", 3, 8, 1, "node1", 29500)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"),
        ("node[003-005,9],other", "node003"),
        ("rack[2,4]-node[10-12]", "rack2-node10"),
        ("login1,node[1-2]", "login1"),
        ("gpu-a[07]", "gpu-a07"),
    ],
)
def test_the_first_host_of_a_list(hosts, first):
    place = find_processes(SLURM | {"SLURM_JOB_NODELIST": hosts})
    assert (place.launcher, place.number, place.size, place.local, place.address) == ("srun", 5, 8, 1, first)


def test_steps_of_a_job_meet_at_ports_of_their_own():
    ports = {find_processes(SLURM | {"SLURM_STEP_ID": str(step)}).port for step in range(20)}
    assert len(ports) == 20
    assert all(1024 < port < 32768 for port in ports)
    chosen = find_processes(SLURM | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"})
    assert (chosen.address, chosen.port) == ("10.0.0.1", 4000)


def test_a_step_counts_and_not_the_job_around_it():
    assert find_processes(SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT as well"),
        (TORCHRUN | {"RANK": "first"}, "RANK is not a whole number"),
        (TORCHRUN | {"RANK": "8"}, "process 8 of 8"),
        (SLURM | {"SLURM_NTASKS": "many"}, "SLURM_NTASKS is not a whole number"),
    ],
)
def test_variables_that_say_nothing_are_refused(given, words):
    with pytest.raises(GdmError) as error:
        find_processes(given)
    assert words in str(error.value)
