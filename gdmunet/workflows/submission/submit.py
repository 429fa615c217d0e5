"""The work of ``gdm_submit``: check everything, queue the jobs, and wait if that was asked."""

from __future__ import annotations

import itertools
from pathlib import Path

from gdmunet.atomic import make_folder
from gdmunet.disk_errors import writing_error
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.results import ResultsFolder
from gdmunet.workflows.requests.submission import SubmitRequest
from gdmunet.workflows.submission.cluster import queue_on_cluster
from gdmunet.workflows.submission.jobs import Job, check_jobs, chosen_executor
from gdmunet.workflows.submission.queued import Run
from gdmunet.workflows.submission.states import WaitOptions, job_table, wait_for
from gdmunet.workflows.submission.workstation import run_on_workstation


def submit(request: SubmitRequest, folders: Folders, jobs: list[Job], run: Run) -> int:
    """Queue jobs, of which none is queued if one cannot work; gives the number of those that are known to have failed.

    Parameters
    ----------
    run
        Function that runs the words of a job in the job's process; submitit finds it by its name.

    Raises
    ------
    GdmError
        No SLURM, or sbatch refuses; a training that would be refused; more GPUs than this machine has.
    """
    executor = chosen_executor(request)
    check_jobs(jobs, request)
    folder = _new_folder(ResultsFolder(folders.results.absolute()).jobs)
    if executor == "local":
        return run_on_workstation(request, jobs, folder, run)
    queued = queue_on_cluster(request, jobs, folder, run)
    say(job_table(queued))
    say(f"logs: {folder}")
    array = queued[0].number.split("_")[0]
    say(f"states: squeue --jobs {array}; end them: scancel {array}")
    return wait_for(queued, WaitOptions()) if request.wait else 0


def _new_folder(parent: Path) -> Path:
    """A folder with the first free number; whoever makes it has it."""
    make_folder(parent)
    for number in itertools.count(1):
        folder = parent / str(number)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise writing_error("cannot make the folder", folder, error) from error
        return folder
    raise AssertionError("numbers do not end")
