"""The work of a job: one command, which asks for its next turn when it was stopped before its end.

Read by each job before its command: it imports nothing that takes time.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from gdmunet.errors import QUEUE_AGAIN, GdmError
from gdmunet.progress import say

Run = Callable[[list[str]], int | None]


@dataclass(frozen=True)
class QueuedCommand:
    """A command as submitit calls it.

    Attributes
    ----------
    words
        Name of the command and its arguments.
    run
        Function that runs such words in this process and gives their exit status.
    requeues
        Whether the job itself asks SLURM for its next turn. Elsewhere the status says it to whoever waits.
    """

    words: tuple[str, ...]
    run: Run
    requeues: bool

    def __call__(self) -> int:
        """Run the command; its status: 0, or that of a command that wants to be started again.

        Raises
        ------
        GdmError
            The command failed.
        SystemExit
            The job is queued again.
        """
        _release_signals()
        say(f"$ {shlex.join(self.words)}")
        try:
            status = self.run(list(self.words)) or 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status == QUEUE_AGAIN and self.requeues:
            _queue_again()
        elif status not in (0, QUEUE_AGAIN):
            raise GdmError(f"{self.words[0]} failed", found=f"status {status}", remedy="see its message above")
        return status


def _release_signals() -> None:
    """Undo submitit's answers to signals: it would ignore what asks a command to save and end."""
    for name in ("SIGTERM", "SIGCONT", "SIGUSR2"):
        if hasattr(signal, name):  # not on Windows
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def _queue_again() -> None:
    import submitit

    job = submitit.JobEnvironment().job_id
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise GdmError(
            "the job was stopped before its end, and cannot be queued again",
            found=str(error),
            remedy="submit the same command again: it goes on where it stopped",
        ) from error
    raise SystemExit(QUEUE_AGAIN)  # without a result: the job has not ended
