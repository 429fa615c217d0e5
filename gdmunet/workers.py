"""Cases in parallel worker processes that cannot hang: a failing or dying worker ends the run and names its case."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from gdmunet.ending import end_with_parent
from gdmunet.errors import GdmError
from gdmunet.host_memory import ran_out
from gdmunet.out_of_memory import is_out_of_memory
from gdmunet.patience import LOOK_SECONDS, Patience, processor_time, stuck
from gdmunet.progress import Progress
from gdmunet.scheduling import Answer, Item, run_on_scheduler

Result = TypeVar("Result")
_SCHEDULER: ContextVar[str | None] = ContextVar("scheduler", default=None)
# Seconds in which a signal to a whole job reaches the process that waits for its workers.
_LATER = 0.3


def check_processes(processes: int) -> None:
    """Refuse a number of processes below 1."""
    if processes < 1:
        raise GdmError("work needs a process", found=processes, expected="1 or more", remedy="give 1 process or more")


def run_in_workers(
    function: Callable[..., Result], items: Sequence[Item], processes: int, show_progress: bool, title: str
) -> list[Result]:
    """Call ``function(*arguments)`` for every (case name, arguments); results in the order of `items`.

    Parameters
    ----------
    function
        Function at module level, since it is sent to the workers.
    processes
        Worker processes; 1 or less: everything runs in this process. Inside `on_scheduler` its workers do the work.

    Raises
    ------
    GdmError
        Names the case. A `GdmError` of the function comes through as it is, any other exception with the worker's
        traceback, a killed worker with its exit code. The other workers are ended.
    """
    with Progress(title, len(items), show_progress) as progress:
        address = _SCHEDULER.get()
        if address is not None:
            return _run_on(address, function, items, progress)
        if processes <= 1 or len(items) <= 1:
            return [_run_here(function, item, progress) for item in items]
        crew = _Crew(function, items, min(processes, len(items)))
        try:
            return crew.run(progress)
        finally:
            crew.end()


@contextlib.contextmanager
def on_scheduler(address: str | None) -> Iterator[None]:
    """Inside, cases go to the workers of a Dask scheduler (``tcp://host:8786``, ``local:N``); None: as elsewhere."""
    before = _SCHEDULER.set(address)
    try:
        yield
    finally:
        _SCHEDULER.reset(before)


def _run_on(address: str, function: Callable[..., Result], items: Sequence[Item], progress: Progress) -> list[Result]:
    results: dict[int, Any] = {}
    folder = Path.cwd()  # a worker has another one, to which a path of a command line does not refer
    work = [(name, (folder, function, *arguments)) for name, arguments in items]
    for index, answer in run_on_scheduler(_answered_alone, work, address, progress) if work else ():
        results[index] = _content(items[index][0], answer)
        progress.step(items[index][0])
    return [results[index] for index in range(len(items))]


def _answered_alone(folder: Path, function: Callable[..., Any], *arguments: Any) -> Answer:
    _one_thread()
    try:
        os.chdir(folder)
    except OSError as error:
        return "error", GdmError(
            "a worker of the scheduler does not see the folder in which the command runs",
            file=folder,
            found=f"{error.strerror} on {platform.node()}",
            remedy="run the command in a folder that every worker sees under the same name",
        )
    return _answered(function, arguments)


def _run_here(function: Callable[..., Result], item: Item, progress: Progress) -> Result:
    name, arguments = item
    try:
        result = function(*arguments)
    except GdmError as error:
        error.located(case=name)
        raise
    except Exception as error:  # as from a worker: with the case's name and the traceback
        if is_out_of_memory(error):
            raise ran_out(error, "working on a case").located(case=name) from error
        raise _failed(name, traceback.format_exc()) from error
    progress.step(name)
    return result


class _Crew:
    """Workers, the pipe to each, and the item that each has in hand."""

    def __init__(self, function: Callable[..., Any], items: Sequence[Item], processes: int) -> None:
        self._items = items
        self._waiting = list(range(len(items)))[::-1]
        self._results: dict[int, Any] = {}
        self._workers: dict[Connection, BaseProcess] = {}
        self._in_hand: dict[Connection, int] = {}
        self._patience = Patience()
        # Spawned, not forked: a fork copies locks that threads of this process may hold.
        context = multiprocessing.get_context("spawn")
        for _ in range(processes):
            mine, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(function, theirs), daemon=True)
            worker.start()
            theirs.close()
            self._workers[mine] = worker

    def run(self, progress: Progress) -> list[Any]:
        for pipe in self._workers:
            self._hand_out(pipe)
        while self._in_hand:
            ready = wait([*self._in_hand, *(self._workers[pipe].sentinel for pipe in self._in_hand)], LOOK_SECONDS)
            self._check_patience()
            for pipe in [pipe for pipe in self._in_hand if pipe in ready or self._workers[pipe].sentinel in ready]:
                self._take(pipe, progress)
                self._hand_out(pipe)
        return [self._results[index] for index in range(len(self._items))]

    def _check_patience(self) -> None:
        """End the run if a worker has done nothing for too long: it would be waited for without an end."""
        pids = {self._workers[pipe].pid or 0: index for pipe, index in self._in_hand.items()}
        for pid in self._patience.lost([(pid, functools.partial(processor_time, pid)) for pid in pids]):
            name = self._items[pids[pid]][0]
            raise stuck("a worker process does nothing", case=name, pid=pid, limit=self._patience.limit)

    def end(self) -> None:
        for pipe, worker in self._workers.items():
            pipe.close()
            if worker.is_alive():
                worker.terminate()
        for worker in self._workers.values():
            worker.join(5)
            if worker.is_alive():  # stopped, or stuck in a system call
                worker.kill()
                worker.join(5)

    def _hand_out(self, pipe: Connection) -> None:
        if self._waiting:
            index = self._waiting.pop()
            self._in_hand[pipe] = index
            self._patience.forget(self._workers[pipe].pid or 0)
            with contextlib.suppress(OSError):  # a worker that is gone shows at its sentinel, by the case's name
                pipe.send(self._items[index][1])

    def _take(self, pipe: Connection, progress: Progress) -> None:
        index = self._in_hand.pop(pipe)
        name = self._items[index][0]
        try:
            kind, content = pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died(name, self._workers[pipe]) from error
        self._results[index] = _content(name, (kind, content))
        progress.step(name)

    def _died(self, name: str, worker: BaseProcess) -> GdmError:
        worker.join(5)
        time.sleep(_LATER)  # a signal to the whole job is this process's as well, and says more
        code = worker.exitcode
        killed = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return GdmError(
            "a worker process died",
            case=name,
            found=killed,
            remedy="often memory ran out: use fewer processes (-np)",
        )


def _work(function: Callable[..., Any], pipe: Connection) -> None:
    """The work of a worker until its pipe closes."""
    # Ctrl-C and the end of a login are the parent's, which ends its workers; so does its own end.
    for number in (signal.SIGINT, getattr(signal, "SIGHUP", None)):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    _one_thread()
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(_answered(function, arguments))
        except (TypeError, AttributeError, pickle.PicklingError):
            # A result that cannot be sent; nothing of it is in the pipe yet, since it is pickled first.
            pipe.send(("traceback", traceback.format_exc()))


def _answered(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Answer:
    """The result of a function, or how it failed: every failure must reach the parent, with its traceback."""
    try:
        return "result", function(*arguments)
    except GdmError as error:
        return "error", error
    except Exception as error:
        if is_out_of_memory(error):
            return "error", ran_out(error, "working on a case")
        return "traceback", traceback.format_exc()


def _content(name: str, answer: Answer) -> Any:
    """The result that a worker answered for a case, or the error that it met."""
    kind, content = answer
    if kind == "error":
        raise content.located(case=name)
    if kind == "traceback":
        raise _failed(name, content)
    return content


def _one_thread() -> None:
    """The workers are the parallelism: threads inside them would only compete."""
    threadpool_limits(1)
    # Importing torch takes seconds and hundreds of megabytes per worker, and not every function needs it.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _failed(name: str, trace: str) -> GdmError:
    return GdmError(
        "the work on a case failed",
        case=name,
        found=f"\n{trace}",
        remedy="this is a fault of gdmunet: report it with this text",
    )
