"""``gdm_submit``: commands as jobs of a cluster or of this machine."""

from __future__ import annotations

import importlib

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.declaration import Request
from gdmunet.workflows.requests.models import FindBestConfigurationRequest
from gdmunet.workflows.requests.submission import SubmitRequest
from gdmunet.workflows.requests.training import TrainRequest


@command(SubmitRequest)
def main(request: SubmitRequest, folders: Folders) -> Request | int:
    """Entry point of ``gdm_submit``."""
    from gdmunet.cli.job_lines import read_jobs
    from gdmunet.workflows.submission.submit import submit

    jobs = read_jobs(request, folders)
    if submit(request, folders, jobs, run_words):
        return 1
    trained = next((job.request for job in jobs if isinstance(job.request, TrainRequest)), None)
    return 0 if trained is None else FindBestConfigurationRequest(dataset=trained.dataset)


def run_words(words: list[str]) -> int | None:
    """Run a command of gdmunet in this process, as its console script does; gives its exit status."""
    status: int | None = importlib.import_module(f"gdmunet.cli.{module_of(words[0])}").main(words[1:])
    return status


def module_of(name: str) -> str:
    """The module of a command: each lies in the file of its name."""
    return name.removeprefix("gdm_")
