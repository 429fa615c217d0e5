"""The processes that train one network on one machine, and their parent: PyTorch's launcher starts and ends them.

The parent hears how each ends. An error of one process is the error of the parent, said once. A process that is killed
takes the others with it: they would wait for it in their next sum.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import psutil
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gdmunet.atomic import write_bytes
from gdmunet.disk_errors import refuses_writing, writing_error
from gdmunet.ending import end_with_parent, ending_signals, patient_output
from gdmunet.errors import GdmError, SilentEnd, Stopped, signal_name
from gdmunet.paths import find_processes
from gdmunet.patience import Patience, is_stopped, processor_time, stuck
from gdmunet.training.loop.interruption import Interruption
from gdmunet.training.watch import DeadProcessError

Work = Callable[..., None]
Kind = Literal["error", "stopped", "traceback"]
Outcome = tuple[Kind, Any]

# Seconds between two looks at signals, and those that the launcher has to end once all its processes are gone.
_LOOK, _GRACE = 0.2, 20.0
_OUTCOME, _PID = "outcome_", "pid_"


def run_crew(work: Work, arguments: tuple[Any, ...], size: int) -> None:
    """Call ``work(*arguments)`` in `size` processes of this machine, as torchrun does.

    Parameters
    ----------
    work
        Function at module level, which opens `distributed.member` at the place that `paths.find_processes` gives.

    Raises
    ------
    GdmError
        That of a process, or of one that died, with the signal that killed it.
    Stopped
        A signal asked for the end, and the processes ended after their step; a second one ends them at once.
    """
    with tempfile.TemporaryDirectory(prefix="gdmunet-") as folder:
        crew = _Crew(work, arguments, size, Path(folder))
        try:
            with Interruption() as interruption:
                crew.run(interruption)
        finally:
            crew.end()


class _Crew:
    """A launcher in a thread, and the folder in which its processes say who they are and how they end."""

    def __init__(self, work: Work, arguments: tuple[Any, ...], size: int, folder: Path) -> None:
        self.size, self._folder = size, folder
        self._patience = Patience()
        self._codes: dict[int, int] = {}
        self._fault: BaseException | None = None
        self._others = {child.pid for child in multiprocessing.active_children()}
        self._children: dict[int, multiprocessing.process.BaseProcess] = {}
        # In a thread: signals stay with this process, which lets the others save as long as they need.
        self._launcher = threading.Thread(target=self._launch, args=(work, arguments), name="launcher", daemon=True)
        self._launcher.start()

    def run(self, interruption: Interruption) -> None:
        told = False
        while self._launcher.is_alive():
            self._launcher.join(_LOOK)
            if interruption.requested is not None and not told:
                told = True
                self._tell_to_stop()
            self._check_patience()
        self._raise(interruption.requested)

    def end(self) -> None:
        """End what is left, with the processes that make patches for it."""
        for child in self._processes():
            _kill_tree(child)
        self._launcher.join(_GRACE)

    def _launch(self, work: Work, arguments: tuple[Any, ...]) -> None:
        # It reports deaths and signals at length; this process says them once.
        for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=self.size,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            rdzv_configs={"timeout": 900},
            local_addr="127.0.0.1",
            max_restarts=0,
            monitor_interval=0.1,
            start_method="spawn",  # a GPU cannot be used in a fork
        )
        try:
            elastic_launch(settings, _run)(work, arguments, self._folder)
        except ChildFailedError as error:
            self._codes = {number: failure.exitcode for number, failure in error.failures.items()}
        except BaseException as error:  # of the launcher itself: raised by the main thread
            self._fault = error

    def _processes(self) -> list[int]:
        present = {
            child.pid: child
            for child in multiprocessing.active_children()
            if child.pid is not None and child.pid not in self._others
        }
        self._children |= present
        return list(present)

    def _ended(self) -> dict[int, int]:
        """Exit code of each process that failed, by number.

        The launcher names one alone if several have ended when it looks, which may be one that another's death ended.
        """
        numbers = self._numbers()
        seen = {numbers[pid]: child.exitcode for pid, child in self._children.items() if pid in numbers}
        return self._codes | {number: code for number, code in seen.items() if code}

    def _numbers(self) -> dict[int, int]:
        """Number of each process that has said it, by its number in the system."""
        return {int(file.read_text()): int(file.name.removeprefix(_PID)) for file in self._folder.glob(f"{_PID}*")}

    def _check_patience(self) -> None:
        """End all if none of them does anything, or one is stopped, for too long: the others wait for it."""
        numbers = self._numbers()
        pids = [pid for pid in self._processes() if pid in numbers]
        lost = self._patience.lost([(pid, functools.partial(processor_time, pid, tree=True)) for pid in pids])
        stopped = [pid for pid in lost if is_stopped(pid)]
        if not lost or (not stopped and len(lost) < len(pids)):
            return  # those that work are waited for by the others
        pid = (stopped or lost)[0]
        number = f"training process {numbers[pid] + 1} of {self.size}"
        raise stuck(f"{number} does nothing", case=None, pid=pid, limit=self._patience.limit)

    def _tell_to_stop(self) -> None:
        """Pass a signal on that this process alone may have got; a process that has got it too hears it once."""
        if os.name != "posix":
            return  # Ctrl-C reaches every process of a console
        for pid in self._processes():
            os.kill(pid, signal.SIGTERM)

    def _raise(self, requested: int | None) -> None:
        """The first error that a user can mend; else the end that was asked for, the death of a process, or a fault."""
        outcomes: dict[int, Outcome] = {
            int(file.name.removeprefix(_OUTCOME)): pickle.loads(file.read_bytes())
            for file in sorted(self._folder.glob(f"{_OUTCOME}*"))
        }
        errors = [content for kind, content in outcomes.values() if kind == "error"]
        for error in errors:
            if not isinstance(error, DeadProcessError):
                raise error
        dead = {number: code for number, code in self._ended().items() if number not in outcomes and code != 1}
        if requested is not None:
            raise Stopped(requested)
        if dead:
            # Those that did not end after it are killed by the launcher: the first death is the reason.
            raise self._died(*min(dead.items(), key=lambda item: item[1] == -signal.SIGTERM))
        for kind, content in outcomes.values():
            if kind == "traceback":
                raise RuntimeError(f"a training process failed\n{content}")
        for kind, content in outcomes.values():
            if kind == "stopped":
                raise Stopped(content)
        if errors:
            raise errors[0]
        if self._fault is not None:
            raise self._fault
        if self._codes:
            raise self._died(*next(iter(self._codes.items())))

    def _died(self, number: int, code: int) -> GdmError:
        how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with status {code}"
        return DeadProcessError.of(f"process {number + 1} of {self.size} {how}")


def _run(work: Work, arguments: tuple[Any, ...], folder: Path) -> None:
    """A process of the group from its start to its end."""
    place = find_processes()
    number = 0 if place is None else place.number
    write_bytes(folder / f"{_PID}{number}", str(os.getpid()).encode())
    with patient_output():
        outcome = _answered(work, arguments)
        if outcome is None:
            return
        kind, content = outcome
        if kind != "silent":
            write_bytes(folder / f"{_OUTCOME}{number}", pickle.dumps((kind, content)))
        sys.stdout.flush()
        sys.stderr.flush()
        # At once: a group whose other processes are gone may wait for them when it is taken down.
        os._exit(1)


def _answered(work: Work, arguments: tuple[Any, ...]) -> tuple[str, Any] | None:
    _end_by_one_signal()
    try:
        work(*arguments)
    except GdmError as error:
        return "error", error
    except SilentEnd:
        return "silent", None
    except KeyboardInterrupt as end:
        return "stopped", end.number if isinstance(end, Stopped) else signal.SIGINT
    except OSError as error:
        refused = refuses_writing(error)
        return ("error", writing_error("cannot write", error.filename, error)) if refused else _fault()
    except Exception:  # every failure must reach the parent, with its traceback
        return _fault()
    return None


def _fault() -> tuple[str, str]:
    return "traceback", traceback.format_exc()


def _end_by_one_signal() -> None:
    """Outside of the steps SIGTERM ends the process, once; Ctrl-C is the parent's, which passes it on as SIGTERM."""

    def end(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in ending_signals():
        signal.signal(number, end)
    # In the steps it saves first; elsewhere, as in a long validation, nobody else would end it.
    end_with_parent(signal.SIGTERM)


def _kill_tree(pid: int) -> None:
    """Kill a process and those that it started, which would wait for ever for one to read their patches."""
    try:
        process = psutil.Process(pid)
        every = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in every:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
