"""The request of ``gdm_submit``."""

from __future__ import annotations

from typing import Literal

from gdmunet.workflows.requests.declaration import Request, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.values import COUNT, NATURAL, POSITIVE

ExecutorName = Literal["slurm", "local"]

# Options that a batch system alone understands.
_OF_SLURM = ("hours", "partition", "account", "cpus", "memory", "sbatch")


@request
class SubmitRequest(Request):
    """Queue commands as jobs."""

    synopsis = Synopsis(
        "gdm_submit",
        "Queue a command as jobs of SLURM, or of this machine: one for each word that its braces make. A training is "
        "continued until it is done, however often its time runs out. Everything is checked before the first job is "
        "queued; logs are in the results folder.",
        folders=("raw", "preprocessed", "results"),
    )
    command: tuple[str, ...] = option(
        help="command of gdmunet, after a --; each word in braces, such as {0,1,2} or {0..4}, makes a job, and so does "
        "each word that the shell made of them at the command's end",
        metavar="COMMAND",
    )
    executor: ExecutorName | None = option(
        "--executor",
        help="slurm: jobs of the cluster; local: processes of this machine, for which the command waits; default: "
        "slurm if sbatch is found",
        default=None,
    )
    gpus: int | None = option(
        "--gpus",
        help="GPUs for each job; gdm_train gets as many processes; default: 1, without a cluster only if there is one",
        default=None,
        metavar="N",
        bounds=NATURAL,
    )
    jobs: int | None = option(
        "--jobs",
        help="most jobs at one time; default: all on a cluster, 1 on this machine",
        default=None,
        metavar="N",
        bounds=COUNT,
    )
    hours: float | None = option(
        "--hours",
        help="hours for each turn of a job; default: 24",
        default=None,
        metavar="H",
        bounds=POSITIVE,
    )
    partition: str | None = option("--partition", help="partition of the cluster; default: the cluster's", default=None)
    account: str | None = option("--account", help="account that pays; default: the user's own", default=None)
    cpus: int | None = option(
        "--cpus", help="processor cores for each job; default: 8 for each GPU", default=None, metavar="N", bounds=COUNT
    )
    memory: float | None = option(
        "--memory", help="memory for each job; default: the cluster's", default=None, metavar="GB", bounds=POSITIVE
    )
    sbatch: dict[str, str] = option(
        "--sbatch",
        help="further options of sbatch by their long names, such as qos=long; nothing after the = for a switch; "
        "default: none",
        default={},
        metavar="NAME=VALUE",
    )
    wait: bool = option(
        "--wait", help="wait until all jobs have ended, show their states, and fail if one of them does", default=False
    )

    def __post_init__(self) -> None:
        """Refuse what the local executor cannot do (RequestError)."""
        super().__post_init__()
        given = [name for name in _OF_SLURM if getattr(self, name)]
        if self.executor == "local" and given:
            raise RequestError(
                f"--{given[0]} is an option of SLURM, and --executor local runs the jobs on this machine",
                remedy="leave one of them out",
            )
