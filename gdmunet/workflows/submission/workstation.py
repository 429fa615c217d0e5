"""Jobs of this machine: a few at one time, each with its own GPUs, started again until it is done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from gdmunet.errors import QUEUE_AGAIN, GdmError
from gdmunet.paths import visible_gpus
from gdmunet.progress import say
from gdmunet.quantities import counted
from gdmunet.workflows.requests.submission import SubmitRequest
from gdmunet.workflows.submission.jobs import Job
from gdmunet.workflows.submission.queued import QueuedCommand, Run
from gdmunet.workflows.submission.states import Ended, QueuedJob, conclude, state_line

# The local executor of submitit wants a limit; a machine of one's own sets none.
_NO_LIMIT_MINUTES = 60 * 24 * 3650
_LOOK_SECONDS = 0.1


def run_on_workstation(request: SubmitRequest, jobs: Sequence[Job], folder: Path, run: Run) -> int:
    """Run all jobs, `request.jobs` at one time; gives the number of failed ones.

    What ends this command ends the jobs as well, after they have saved.

    Raises
    ------
    GdmError
        More GPUs than there are.
    """
    slots = _slots(request)
    waiting, running, ends = deque(jobs), dict[int, QueuedJob](), list[Ended]()
    with _ended_together(running):
        while waiting or running:
            for slot in range(len(slots)):
                if waiting and slot not in running:
                    running[slot] = _start(waiting.popleft(), slots[slot], folder, run)
            time.sleep(_LOOK_SECONDS)
            for slot, one in list(running.items()):
                end = _end_of(one)
                if end is None:
                    continue
                del running[slot]
                if end == QUEUE_AGAIN:
                    say(f"job {one.number} was stopped before its end and is queued again")
                    waiting.append(one.job)
                else:
                    ends.append("done" if end == 0 else "failed")
                    say(state_line(one, ends[-1]))
    return conclude(ends)


def _slots(request: SubmitRequest) -> list[list[int]]:
    """The GPUs of each place for a job."""
    there = visible_gpus()
    if there is None:
        import torch

        there = tuple(range(torch.cuda.device_count()))
    places = request.jobs or 1
    each = request.gpus if request.gpus is not None else int(bool(there))
    if each * places > len(there):
        raise GdmError(
            "more GPUs were asked for than there are",
            found=counted(len(there), "GPU"),
            expected=f"{counted(places, 'job')} at one time with {counted(each, 'GPU')} each",
            remedy="lower --gpus or --jobs; --gpus 0 uses none",
        )
    return [list(there[place * each : (place + 1) * each]) for place in range(places)]


def _start(job: Job, gpus: list[int], folder: Path, run: Run) -> QueuedJob:
    import submitit

    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(
        timeout_min=_NO_LIMIT_MINUTES, gpus_per_node=len(gpus), visible_gpus=tuple(gpus), stderr_to_stdout=True
    )
    with _without_interrupts():
        one = QueuedJob(job, executor.submit(QueuedCommand(job.words, run, requeues=False)))
    say(f"job {one.number} started: {job}; log: {one.log}")
    return one


def _end_of(one: QueuedJob) -> int | None:
    """The status of a job that has ended; None: it runs."""
    if not one.submitted.done():
        return None
    result = one.result()
    return result if isinstance(result, int) else 1


@contextlib.contextmanager
def _ended_together(running: dict[int, QueuedJob]) -> Iterator[None]:
    """Inside, the end of this process asks the running jobs to save and end, and waits for them."""
    try:
        yield
    except BaseException:
        for one in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(one.number), signal.SIGTERM)
        for one in running.values():
            while not one.submitted.done():
                time.sleep(_LOOK_SECONDS)
        raise


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Inside, a process is started that Ctrl-C on the terminal leaves alone: this one ends it, and only once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
