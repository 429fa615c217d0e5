"""Jobs of SLURM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdmunet.errors import GdmError
from gdmunet.workflows.requests.submission import SubmitRequest
from gdmunet.workflows.submission.jobs import Job
from gdmunet.workflows.submission.queued import QueuedCommand, Run
from gdmunet.workflows.submission.states import QueuedJob

DEFAULT_HOURS = 24.0
_CORES_PER_GPU = 8
# Before the end of a turn, in which a training finishes its step and saves.
_SAVING_SECONDS = 300


def queue_on_cluster(request: SubmitRequest, jobs: Sequence[Job], folder: Path, run: Run) -> list[QueuedJob]:
    """Give all jobs to sbatch at once: several are one array.

    Raises
    ------
    GdmError
        sbatch refuses them.
    """
    import submitit

    executor = submitit.SlurmExecutor(folder)
    try:
        executor.update_parameters(**parameters(request, len(jobs), jobs[0].words[0]))
        with executor.batch():
            submitted = [executor.submit(QueuedCommand(job.words, run, requeues=True)) for job in jobs]
    except (RuntimeError, OSError) as error:
        raise GdmError(
            "sbatch did not take the jobs",
            file=folder,
            found=str(error).strip() or type(error).__name__,
            remedy="correct partition, account, hours or --sbatch as it says; nothing was queued",
        ) from error
    return [QueuedJob(job, one) for job, one in zip(jobs, submitted, strict=True)]


def parameters(request: SubmitRequest, count: int, name: str) -> dict[str, Any]:
    """Options of sbatch, as submitit spells them."""
    gpus = 1 if request.gpus is None else request.gpus
    cores = request.cpus or _CORES_PER_GPU * max(gpus, 1)
    minutes = math.ceil(60 * (request.hours or DEFAULT_HOURS))
    asked: dict[str, Any] = {
        "job_name": name,
        "time": minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": cores,
        # A step does not inherit it from its job, since SLURM 22.05.
        "srun_args": [f"--cpus-per-task={cores}"],
        "stderr_to_stdout": True,
        "array_parallelism": request.jobs or count,
        "wckey": None,  # clusters without such keys refuse one
    }
    if gpus:
        asked["gpus_per_node"] = gpus
    if request.partition:
        asked["partition"] = request.partition
    if request.account:
        asked["account"] = request.account
    if request.memory:
        asked["mem"] = f"{math.ceil(1000 * request.memory)}M"
    saving = min(_SAVING_SECONDS, 60 * minutes // 4)
    asked["additional_parameters"] = {
        "signal": f"USR1@{saving}",
        "requeue": True,
        **{option: value or True for option, value in request.sbatch.items()},
    }
    return asked
