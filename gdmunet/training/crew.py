"""The processes that train one network, and their parent: it starts them, hears how each ends, and ends all together.

An error of one process is the error of the parent, said once. A process that is killed takes the others with it: they
would wait for it in their next sum.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Literal

import psutil
import torch

from gdmunet.atomic import refuses_writing, writing_error
from gdmunet.ending import end_with_parent, ending_signals, patient_output
from gdmunet.errors import GdmError, Stopped, signal_name
from gdmunet.patience import Patience, is_stopped, processor_time, stuck
from gdmunet.training import distributed
from gdmunet.training.distributed import Place
from gdmunet.training.loop.interruption import Interruption

# What a process does: its place, what it calls when it has opened everything, and the arguments of all.
Work = Callable[..., None]
Kind = Literal["ready", "done", "error", "stopped", "traceback"]

# Seconds between two looks at signals, and those that the others have to end by themselves once one has failed.
_LOOK = 0.2
_GRACE = 5.0


class DeadProcessError(GdmError):
    """A process of the group died; the training can go on from its last state."""


def run_crew(
    work: Work, arguments: tuple[Any, ...], size: int, device_kind: str, begin: Callable[[], None] | None = None
) -> None:
    """Call ``work(place, ready, *arguments)`` in `size` processes of one group.

    Parameters
    ----------
    work
        Function at module level. It calls ``ready()`` once it has opened everything and has changed nothing yet.
    device_kind
        ``cuda``: each process gets the GPU of its number; ``cpu``.
    begin
        Function that is called here once every process is ready; they wait for it.

    Raises
    ------
    GdmError
        That of a process, or of one that died, with the signal that killed it.
    Stopped
        A signal asked for the end, and the processes ended after their step; a second one ends them at once.
    """
    crew = _Crew(work, arguments, size, device_kind)
    try:
        with Interruption() as interruption:
            crew.run(begin, interruption)
    finally:
        crew.end()


class _Crew:
    """Processes by number, the pipe to each, and how each has ended."""

    def __init__(self, work: Work, arguments: tuple[Any, ...], size: int, device_kind: str) -> None:
        self.size = size
        # The store lies here: it outlives every process of the group, and its port is free for sure.
        self._store = distributed.open_store()
        self._processes: dict[int, BaseProcess] = {}
        self._pipes: dict[int, Connection] = {}
        self._ready: set[int] = set()
        self._outcomes: dict[int, tuple[Kind, Any]] = {}
        self._deaths: dict[int, int | None] = {}
        self._patience = Patience()
        # Spawned: a GPU cannot be used in a fork.
        context = multiprocessing.get_context("spawn")
        for number in range(size):
            device = torch.device("cuda", number) if device_kind == "cuda" else torch.device(device_kind)
            place = Place(number, size, device, self._store.port)
            mine, theirs = context.Pipe()
            # No daemons: a process starts others, which make patches.
            process = context.Process(target=_run, args=(work, arguments, place, theirs), daemon=False)
            process.start()
            theirs.close()
            self._processes[number], self._pipes[number] = process, mine

    def run(self, begin: Callable[[], None] | None, interruption: Interruption) -> None:
        waiting, told, deadline = True, False, float("inf")
        while running := [number for number, process in self._processes.items() if not self._over(number, process)]:
            wait([self._processes[number].sentinel for number in running] + [*self._pipes.values()], _LOOK)
            self._hear()
            if waiting and len(self._ready) == self.size:
                waiting = False
                if begin is not None:
                    begin()
                for pipe in self._pipes.values():
                    pipe.send("go")
            if interruption.requested is not None and not told:
                told = True
                self._tell_to_stop()
            self._check_patience(running)
            if deadline == float("inf") and self._trouble():
                deadline = time.monotonic() + _GRACE
            if time.monotonic() > deadline:
                break
        self._hear()
        self._raise(interruption.requested)

    def end(self) -> None:
        """End what is left, with the processes that make patches for it."""
        for process in self._processes.values():
            if process.is_alive():
                _kill_tree(process)
            process.join(_GRACE)
        for pipe in self._pipes.values():
            pipe.close()

    def _check_patience(self, running: Sequence[int]) -> None:
        """End all if none of them does anything, or one is stopped, for too long: the others wait for it."""
        pids = {self._processes[number].pid or 0: number for number in running}
        lost = self._patience.lost([(pid, functools.partial(processor_time, pid, tree=True)) for pid in pids])
        stopped = [pid for pid in lost if is_stopped(pid)]
        if not stopped and len(lost) < len(pids):
            return  # those that work are waited for by the others
        for pid in stopped or lost:
            number = f"training process {pids[pid] + 1} of {self.size}"
            raise stuck(f"{number} does nothing", case=None, pid=pid, limit=self._patience.limit)

    def _over(self, number: int, process: BaseProcess) -> bool:
        """Whether a process has ended; one that said nothing before has died."""
        if process.is_alive():
            return False
        self._hear()
        if number not in self._outcomes:
            self._deaths.setdefault(number, process.exitcode)
        return True

    def _hear(self) -> None:
        for number, pipe in list(self._pipes.items()):
            try:
                while pipe.poll():
                    kind, content = pipe.recv()
                    if kind == "ready":
                        self._ready.add(number)
                    else:
                        self._outcomes[number] = (kind, content)
            except (EOFError, OSError):  # it has ended: its process says how
                del self._pipes[number]
                pipe.close()

    def _tell_to_stop(self) -> None:
        """Pass a signal on that this process alone may have got; a process that has got it too hears it once."""
        if os.name != "posix":
            return  # Ctrl-C reaches every process of a console
        for process in self._processes.values():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)

    def _trouble(self) -> bool:
        return bool(self._deaths) or any(kind != "done" for kind, _ in self._outcomes.values())

    def _raise(self, requested: int | None) -> None:
        """The first error that a user can mend; else the death of a process, the end that was asked for, or a fault."""
        first: dict[Kind, Any] = {}
        for kind, content in self._outcomes.values():
            first.setdefault(kind, content)
        if "error" in first:
            raise first["error"]
        if requested is not None or "stopped" in first:
            raise Stopped(first["stopped"] if requested is None else requested)
        if self._deaths:
            raise self._died(*next(iter(self._deaths.items())))
        if "traceback" in first:
            raise RuntimeError(f"a training process failed\n{first['traceback']}")

    def _died(self, number: int, code: int | None) -> GdmError:
        killed = code is not None and code < 0
        how = f"was killed by {signal_name(-code)}" if killed and code is not None else f"ended with status {code}"
        return DeadProcessError(
            "a training process died",
            found=f"process {number + 1} of {self.size} {how}",
            remedy="often memory ran out: use fewer processes that make patches (-np), or plan with a smaller budget",
        )


def _run(work: Work, arguments: tuple[Any, ...], place: Place, pipe: Connection) -> None:
    """A process of the group from its start to its end."""
    with patient_output():
        _answered(work, arguments, place, pipe)


def _answered(work: Work, arguments: tuple[Any, ...], place: Place, pipe: Connection) -> None:
    _end_by_one_signal()
    if place.device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // place.size))
    answer: tuple[Kind, Any]
    try:
        distributed.join(place)
        work(place, lambda: _wait(pipe), *arguments)
        distributed.leave()
        answer = ("done", None)
    except GdmError as error:
        answer = ("error", error)
    except KeyboardInterrupt as end:
        answer = ("stopped", end.number if isinstance(end, Stopped) else signal.SIGINT)
    except OSError as error:
        refused = refuses_writing(error)
        answer = ("error", writing_error("cannot write", error.filename, error)) if refused else _fault()
    except Exception:  # every failure must reach the parent, with its traceback
        answer = _fault()
    pipe.send(answer)
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a group whose other processes are gone may wait for them when it is taken down.
    os._exit(0)


def _fault() -> tuple[Kind, str]:
    return "traceback", traceback.format_exc()


def _wait(pipe: Connection) -> None:
    """Say that everything is open, and wait for the parent."""
    pipe.send(("ready", None))
    try:
        pipe.recv()
    except EOFError as error:  # the parent is gone
        raise Stopped(signal.SIGTERM) from error


def _end_by_one_signal() -> None:
    """Outside of the steps SIGTERM ends the process, once; Ctrl-C is the parent's, which passes it on as SIGTERM."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in ending_signals():
        signal.signal(number, end)
    # In the steps it saves first; elsewhere, as in a long validation, nobody else would end it.
    end_with_parent(signal.SIGTERM)


def _kill_tree(process: BaseProcess) -> None:
    """Kill a process and those that it started, which would wait for ever for one to read their patches."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.kill()
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
