"""Jobs of this machine run as real processes; those of SLURM with stand-ins for its programs."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'gdmunet[slurm]'")

from gdmunet.errors import QUEUE_AGAIN, GdmError
from gdmunet.paths import find_folders
from gdmunet.results import ResultsFolder
from gdmunet.workflows.requests.declaration import RequestError
from gdmunet.workflows.requests.submission import SubmitRequest
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.submission import states, workstation
from gdmunet.workflows.submission.cluster import parameters, queue_on_cluster
from gdmunet.workflows.submission.jobs import Job, additions, check_jobs, chosen_executor
from gdmunet.workflows.submission.states import QueuedJob, WaitOptions, wait_for
from gdmunet.workflows.submission.submit import submit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="batch systems are of POSIX")
QUICK = WaitOptions(seconds=0.01, grace=0.05)
# Appends a line to the file that is its argument; the first time it wants another turn.
TWICE = (
    "import sys; f = open(sys.argv[1], 'a+'); f.seek(0); n = len(f.readlines()); f.write('x\\n'); "
    f"sys.exit(0 if n else {QUEUE_AGAIN})"
)


def python(code, *arguments):
    return Job((sys.executable, "-c", code, *map(str, arguments)), None, find_folders())


def request(*command, **options):
    return SubmitRequest(**{"command": command or ("gdm_doctor",), "executor": "local"} | options)


def test_jobs_of_this_machine_run_one_after_the_other_until_all_are_done(tmp_path, capfd):
    code = "import sys, time; f = open(sys.argv[1], 'a'); f.write('b'); f.flush(); time.sleep(0.2); f.write('e')"
    jobs = [python(code, tmp_path / "log", number) for number in (1, 2)]
    assert submit(request(), find_folders(results=tmp_path / "results"), jobs, subprocess.call) == 0
    assert (tmp_path / "log").read_text() == "bebe"
    assert "2 jobs done, 0 failed" in capfd.readouterr().out


def test_a_failing_job_is_counted_and_its_log_lies_in_the_results_folder(tmp_path, capfd):
    folders = find_folders(results=tmp_path)
    jobs = [python("print('first words'); raise SystemExit(3)"), python("print('second')")]
    assert submit(request(jobs=2), folders, jobs, subprocess.call) == 1
    said = capfd.readouterr().out
    (log,) = re.findall(r"failed: .*; log: (.*)", said)
    assert log.startswith(str(ResultsFolder(tmp_path).jobs / "1"))
    assert "first words" in Path(log).read_text()
    assert submit(request(), folders, jobs[1:], subprocess.call) == 0
    assert sorted(path.name for path in ResultsFolder(tmp_path).jobs.iterdir()) == ["1", "2"]


def test_a_job_that_was_stopped_before_its_end_gets_its_next_turn(tmp_path, capfd):
    jobs = [python(TWICE, tmp_path / "turns")]
    assert submit(request(), find_folders(results=tmp_path), jobs, subprocess.call) == 0
    assert (tmp_path / "turns").read_text() == "x\nx\n"
    assert "queued again" in capfd.readouterr().out


def test_a_process_that_dies_has_failed(tmp_path, capfd):
    jobs = [python("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")]
    assert submit(request(), find_folders(results=tmp_path), jobs, subprocess.call) == 1
    assert "failed" in capfd.readouterr().out


def test_the_end_of_the_command_lets_the_running_job_save(tmp_path):
    """A job that is asked to end does so by itself; nothing starts after it."""
    job = python("import sys; open(sys.argv[1], 'w')", tmp_path / "never")

    def stop():
        while not (tmp_path / "begun").is_file():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    first = Job((str(tmp_path),), None, find_folders())
    with pytest.raises(KeyboardInterrupt):
        workstation.run_on_workstation(request(), [first, job], tmp_path / "jobs", save_at_the_end)
    assert (tmp_path / "saved").is_file()
    assert not (tmp_path / "never").exists()


def save_at_the_end(words):
    """A command that ends when SIGTERM asks it to."""
    import pathlib
    import signal

    folder, asked = pathlib.Path(words[0]), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    (folder / "begun").touch()
    for _ in range(400):
        if asked:
            time.sleep(0.3)
            (folder / "saved").touch()
            return QUEUE_AGAIN
        time.sleep(0.02)
    return 1


@pytest.fixture(autouse=True)
def own_functions_travel():
    """The process of a job cannot import this file."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_gpus_are_given_out_by_place(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")
    assert workstation._slots(request(gpus=2, jobs=2)) == [[2, 3], [5, 7]]
    assert workstation._slots(request()) == [[2]]
    with pytest.raises(GdmError, match="more GPUs"):
        workstation._slots(request(gpus=2, jobs=3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-ab12")
    with pytest.raises(GdmError, match="does not hold numbers"):
        workstation._slots(request())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert workstation._slots(request(jobs=2)) == [[], []]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for SLURM's programs, which note how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "sbatch": f'cp "$1" {tmp_path}/script.sh; echo "Submitted batch job 77"',
        "srun": 'while [[ "$1" == --* ]]; do if [[ "$1" == --output ]]; then shift; fi; shift; done; exec "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol',
        "squeue": f"cat {tmp_path}/queue",
    }
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path


def run_script(folder, index):
    """Run the batch script as SLURM runs a member of an array."""
    variables = {"SLURM_JOB_ID": str(78 + index), "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(index)}
    return subprocess.run(
        ["bash", folder / "script.sh"], env=os.environ | variables, capture_output=True, text=True, check=False
    )


def test_sbatch_gets_the_options(slurm):
    asked = request(executor="slurm", gpus=4, hours=24, partition="gpu", account="lab", memory=64,
                    jobs=2, sbatch={"qos": "long", "exclusive": ""})  # fmt: skip
    jobs = [python("pass", fold) for fold in range(5)]
    queued = queue_on_cluster(asked, jobs, slurm / "jobs", subprocess.call)
    assert [one.number for one in queued] == [f"77_{fold}" for fold in range(5)]
    script = (slurm / "script.sh").read_text()
    options = set(re.findall(r"^#SBATCH --(.*)$", script, re.M))
    assert options >= {"array=0-4%2", "gpus-per-node=4", "time=1440", "partition=gpu", "account=lab", "mem=64000M",
                       "signal=USR1@300", "requeue", "open-mode=append", "qos=long", "exclusive", "nodes=1",
                       "ntasks-per-node=1", "cpus-per-task=32"}  # fmt: skip
    assert not [option for option in options if option.startswith("wckey")]
    assert "srun" in script
    assert "--cpus-per-task=32" in script.split("# command")[1]
    assert str(slurm / "jobs") in script


def test_a_short_turn_leaves_time_to_work():
    assert (
        parameters(request(executor="slurm", hours=0.1), 1, "gdm_train")["additional_parameters"]["signal"] == "USR1@90"
    )


def test_a_job_of_slurm_is_queued_again_until_it_is_done(slurm, capsys):
    jobs = [python(TWICE, slurm / "turns"), python("raise SystemExit(2)")]
    queued = queue_on_cluster(request(executor="slurm"), jobs, slurm / "jobs", subprocess.call)
    first = run_script(slurm, 0)
    assert first.returncode == QUEUE_AGAIN, first.stderr
    assert (slurm / "scontrol").read_text() == "requeue 77_0\n"
    assert queued[0].result() is None
    assert run_script(slurm, 0).returncode == 0
    assert run_script(slurm, 1).returncode != 0
    (slurm / "queue").write_text("")
    assert wait_for(queued, QUICK) == 1
    said = capsys.readouterr().out
    assert "job 77_0 done" in said
    assert "job 77_1 failed" in said


def test_waiting_says_each_state_once_and_a_lost_job_has_failed(slurm, capsys, monkeypatch):
    (one,) = queue_on_cluster(request(executor="slurm"), [python("pass")], slurm / "jobs", subprocess.call)
    seen = iter(["PENDING", "PENDING", "RUNNING", None, "PENDING", "", *[""] * 1000])

    def queue():
        state = next(seen)
        return None if state is None else {one.number: state} if state else {}

    monkeypatch.setattr(states, "_queue", queue)
    assert wait_for([one], QUICK) == 1
    words = re.findall(r"job 77 (\w+):", capsys.readouterr().out)
    assert words == ["pending", "running", "unknown", "pending", "ending", "failed"]


def test_the_queue_is_read_as_squeue_prints_it(slurm):
    (slurm / "queue").write_text("77_0 RUNNING\n77_1 PENDING\n")
    assert states._queue() == {"77_0": "RUNNING", "77_1": "PENDING"}
    (slurm / "bin" / "squeue").write_text("#!/bin/bash\nexit 1\n")
    assert states._queue() is None


def test_what_sbatch_refuses_is_said(slurm):
    (slurm / "bin" / "sbatch").write_text("#!/bin/bash\necho 'invalid partition specified: gpu' >&2\nexit 1\n")
    with pytest.raises(GdmError, match="sbatch did not take") as caught:
        queue_on_cluster(request(executor="slurm"), [python("pass")], slurm / "jobs", subprocess.call)
    assert "invalid partition" in caught.value.found


def test_without_slurm_the_refusal_names_the_local_executor(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GdmError, match="--executor local"):
        chosen_executor(request(executor=None))
    assert chosen_executor(request()) == "local"


def test_without_submitit_the_refusal_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(GdmError, match=r"gdmunet\[slurm\]"):
        chosen_executor(request())


def test_sbatch_is_the_default_where_it_is(slurm):
    assert chosen_executor(request(executor=None, wait=True)) == "slurm"
    (slurm / "bin" / "squeue").unlink()
    with pytest.raises(GdmError, match="squeue"):
        chosen_executor(request(executor=None, wait=True))


def test_options_of_slurm_are_refused_on_this_machine():
    for options in ({"partition": "gpu"}, {"hours": 3.0}, {"sbatch": {"qos": "long"}}):
        with pytest.raises(RequestError, match="is an option of SLURM"):
            request(**options)


def test_a_training_continues_or_starts_and_uses_the_gpus_of_its_job():
    def train(**options):
        return TrainRequest(dataset="501", configuration="2d", **options)

    assert additions(train(), 1) == ("--c", "auto")
    assert additions(train(continue_training="auto"), 4) == ("-num_gpus", "4")
    assert additions(train(num_gpus=4), 4) == ("--c", "auto")
    assert additions(train(device="cpu"), 4) == ("--c", "auto")
    assert additions(train(validate="final"), 1) == ()
    for options in ({"overwrite": True}, {"continue_training": "latest"}, {"num_gpus": 2}):
        with pytest.raises(RequestError):
            additions(train(**options), 4)


def test_trainings_are_asked_what_gdm_train_would_refuse(toy):
    _, folders = toy

    def check(*words, **options):
        fields = {"dataset": "901", "configuration": "3d_fullres", "fold": "0", "trainer": "FidelityTrainer"} | options
        check_jobs([Job(("gdm_train", *words), TrainRequest(**fields), folders)], asked)

    training = ("gdm_train", "901", "3d_fullres", "{0,1}")
    asked = request(*training, "-num_gpus", "4", gpus=4)
    with pytest.raises(GdmError, match="cannot be shared by 4 processes") as error:
        check(num_gpus=4)
    fewer = ["gdm_submit", "--executor", "local", "--gpus", "2", "--", *training]
    assert list(error.value.command.words) == fewer
    assert additions(TrainRequest(dataset="901", configuration="3d_fullres"), 2)[-2:] == ("-num_gpus", "2")
    with pytest.raises(GdmError, match=r"gdm_train 7: .*fold"):
        check("7", fold="7")
    with pytest.raises(GdmError, match="data set 905"):
        check(dataset="905")
    with pytest.raises(GdmError, match="two jobs would do the same"):
        check_jobs([python("pass"), python("pass")], asked)


def test_a_job_knows_its_log(slurm):
    (one,) = queue_on_cluster(request(executor="slurm"), [python("pass")], slurm / "jobs", subprocess.call)
    assert isinstance(one, QueuedJob)
    assert one.log == slurm / "jobs" / "77_0_log.out"
