"""Jobs before they are queued: their commands, what is added to them, and what can refuse them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.workflows.requests.declaration import Request, RequestError
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.submission import ExecutorName, SubmitRequest
from gdmunet.workflows.requests.training import TrainRequest


@dataclass(frozen=True)
class Job:
    """A command to be queued.

    Attributes
    ----------
    words
        Name of the command and its arguments, those that were added too.
    request
        Options that the words say; None: the command only prints, such as its ``--help``.
    folders
        Folders that the command will use.
    """

    words: tuple[str, ...]
    request: Request | None
    folders: Folders

    def __str__(self) -> str:
        return shlex.join(self.words)


def chosen_executor(request: SubmitRequest) -> ExecutorName:
    """The executor that was asked for, or SLURM where its programs are.

    Raises
    ------
    GdmError
        A program of SLURM or the package submitit is missing.
    """
    name: ExecutorName = request.executor or "slurm"
    wanted = ("sbatch", "srun", *(("squeue",) if request.wait else ())) if name == "slurm" else ()
    missing = [program for program in wanted if shutil.which(program) is None]
    if missing:
        raise GdmError(
            "jobs cannot be queued here",
            found=f"no {' and no '.join(missing)}",
            expected="the programs of SLURM",
            remedy="run this on a login node of the cluster, or on this machine with --executor local",
        )
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise GdmError(
            "jobs need a package that is not installed", found=str(error), remedy='pip install "gdmunet[slurm]"'
        ) from error
    return name


def additions(request: Request, gpus: int) -> tuple[str, ...]:
    """Words that a command needs as a job, beside those of the user.

    Raises
    ------
    RequestError
        A training that would start over at each turn, or that uses other GPUs than the job asks for.
    """
    if not isinstance(request, TrainRequest):
        return ()
    if request.overwrite or request.continue_training == "latest":
        flag = "--overwrite" if request.overwrite else "--c"
        raise RequestError(
            f"a job is started again until it is done, and {flag} says what its first start alone can do",
            remedy=f"leave {flag} out: --c auto is added, which continues or starts",
        )
    words: list[str] = []
    if request.continue_training is None and request.validate is None:
        words += ["--c", "auto"]
    if request.device == "cpu":
        return tuple(words)
    if request.num_gpus == 1 and gpus > 1:
        words += ["-num_gpus", str(gpus)]
    elif request.num_gpus not in (1, gpus):
        raise RequestError(
            f"the job asks for {gpus} GPUs, and -num_gpus {request.num_gpus} uses another number",
            remedy="leave -num_gpus out: that of --gpus is added",
        )
    return tuple(words)


def check_jobs(jobs: Sequence[Job], submitted: SubmitRequest) -> None:
    """Refuse what a job would refuse after its time in the queue, as far as this machine can know (GdmError).

    Parameters
    ----------
    submitted
        Request that the jobs were made from, for the remedy.
    """
    seen: set[tuple[str, ...]] = set()
    for job in jobs:
        if job.words in seen:
            raise GdmError(
                "two jobs would do the same",
                found=str(job),
                expected="different commands",
                remedy="name each word in the braces once",
            )
        seen.add(job.words)
    trainings = [job for job in jobs if isinstance(job.request, TrainRequest)]
    if not trainings:
        return
    # torch, which other commands' jobs need not load
    from gdmunet.workflows.training_run import Run, UnsharedBatchError, check_queued

    for job in trainings:
        assert isinstance(job.request, TrainRequest)
        # The GPUs are the job's, not those of this machine.
        try:
            check_queued(Run.of(replace(job.request, device=None), job.folders).settled())
        except GdmError as error:
            if isinstance(error, UnsharedBatchError):  # gdm_train's own remedy would train here
                error.command = command_line(_with_gpus(submitted, error.fewer))
            raise error.within(str(job)) from None


def _with_gpus(request: SubmitRequest, gpus: int) -> SubmitRequest:
    """The same jobs with another number of GPUs, which is said by ``--gpus`` alone."""
    words = list(request.command)
    for place in [place for place, word in enumerate(words) if word.replace("--", "-") == "-num_gpus"][::-1]:
        del words[place : place + 2]
    return replace(request, command=tuple(words), gpus=gpus)
