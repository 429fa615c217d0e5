"""What has become of jobs: a table of them, and the wait for their ends."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gdmunet.errors import GdmError
from gdmunet.progress import say
from gdmunet.quantities import counted
from gdmunet.workflows.submission.jobs import Job

# What submitit calls a job; its package need not be there when the commands are listed.
Submitted = Any
Ended = Literal["done", "failed"]


@dataclass(frozen=True)
class QueuedJob:
    """A job that was given to an executor."""

    job: Job
    submitted: Submitted

    @property
    def number(self) -> str:
        """Its number in the batch system."""
        return str(self.submitted.job_id)

    @property
    def log(self) -> Path:
        """What its command prints."""
        return Path(self.submitted.paths.stdout)

    def result(self) -> int | Ended | None:
        """The status of its command, or that it failed; None: no result is there yet."""
        # submitit itself would wait for it.
        if not Path(self.submitted.paths.result_pickle).is_file():
            return None
        return "failed" if self.submitted.exception() is not None else int(self.submitted.result())


def job_table(queued: Sequence[QueuedJob]) -> str:
    """Number and command of each job."""
    width = max(len("job"), *(len(one.number) for one in queued))
    return "\n".join([f"{'job':<{width}}  command", *(f"{one.number:<{width}}  {one.job}" for one in queued)])


@dataclass(frozen=True)
class WaitOptions:
    """How SLURM is asked.

    Attributes
    ----------
    seconds
        Time between two questions.
    grace
        Time in which the result of a job that has left the queue may reach a shared disk.
    """

    seconds: float = 15.0
    grace: float = 60.0

    def __post_init__(self) -> None:
        """Refuse times that are none (GdmError)."""
        if not (0 < self.seconds < math.inf and 0 <= self.grace < math.inf):
            raise GdmError(
                "the batch system cannot be asked so",
                found=f"seconds {self.seconds}, grace {self.grace}",
                expected="seconds above 0, grace of 0 or more",
                remedy="correct the times",
            )


def wait_for(queued: Sequence[QueuedJob], options: WaitOptions) -> int:
    """Say each change of a job's state until all have ended; gives the number of failed ones."""
    told: dict[str, str] = {}
    gone: dict[str, float] = {}
    ends: dict[str, Ended] = {}
    while len(ends) < len(queued):
        states = _queue()
        for one in queued:
            if one.number not in ends:
                state = _state(one, states, gone, options.grace)
                if state in ("done", "failed"):
                    ends[one.number] = state  # type: ignore[assignment]
                if told.get(one.number) != state:
                    told[one.number] = state
                    say(state_line(one, state))
        if len(ends) < len(queued):
            time.sleep(options.seconds)
    return conclude(list(ends.values()))


def conclude(ends: Sequence[Ended]) -> int:
    """Say how many jobs are done; gives the number of failed ones."""
    failed = sum(end == "failed" for end in ends)
    say(f"{counted(len(ends) - failed, 'job')} done, {failed} failed")
    return failed


def state_line(one: QueuedJob, state: str) -> str:
    """The state of a job as it is said."""
    log = f"; log: {one.log}" if state == "failed" else ""
    return f"job {one.number} {state}: {one.job}{log}"


def _state(one: QueuedJob, states: Mapping[str, str] | None, gone: dict[str, float], grace: float) -> str:
    result = one.result()
    if result is not None:
        return "done" if result == 0 else "failed"
    if states is None:
        return "unknown"
    if one.number in states:
        gone.pop(one.number, None)
        return states[one.number].lower()
    left = gone.setdefault(one.number, time.monotonic())
    return "failed" if time.monotonic() - left >= grace else "ending"


def _queue(run: Callable[..., Any] = subprocess.run) -> dict[str, str] | None:
    """State of each of the user's jobs in the queue by number; None: SLURM does not answer."""
    try:
        answer = run(
            ["squeue", "--me", "--noheader", "--array", "--format", "%i %T"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return {words[0]: words[1] for line in answer.splitlines() if len(words := line.split()) == 2}
