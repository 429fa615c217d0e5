"""Cases in parallel worker processes that cannot hang: a failing or dying worker ends the run and names its case."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from gdmunet.errors import GdmError
from gdmunet.progress import Progress

Result = TypeVar("Result")
Item = tuple[str, tuple[Any, ...]]


def check_processes(processes: int) -> None:
    """Refuse a number of processes below 1."""
    if processes < 1:
        raise GdmError("work needs a process", found=processes, expected="1 or more")


def run_in_workers(
    function: Callable[..., Result], items: Sequence[Item], processes: int, show_progress: bool, title: str
) -> list[Result]:
    """Call ``function(*arguments)`` for every (case name, arguments); results in the order of `items`.

    Parameters
    ----------
    function
        Function at module level, since it is sent to the workers.
    processes
        Worker processes; 1 or less: everything runs in this process.

    Raises
    ------
    GdmError
        Names the case. A `GdmError` of the function comes through as it is, any other exception with the worker's
        traceback, a killed worker with its exit code. The other workers are ended.
    """
    with Progress(title, len(items), show_progress) as progress:
        if processes <= 1 or len(items) <= 1:
            return [_run_here(function, item, progress) for item in items]
        crew = _Crew(function, items, min(processes, len(items)))
        try:
            return crew.run(progress)
        finally:
            crew.end()


def _run_here(function: Callable[..., Result], item: Item, progress: Progress) -> Result:
    name, arguments = item
    try:
        result = function(*arguments)
    except GdmError as error:
        error.located(case=name)
        raise
    except Exception as error:  # as from a worker: with the case's name and the traceback
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
            ready = wait([*self._in_hand, *(self._workers[pipe].sentinel for pipe in self._in_hand)])
            for pipe in [pipe for pipe in self._in_hand if pipe in ready or self._workers[pipe].sentinel in ready]:
                self._take(pipe, progress)
                self._hand_out(pipe)
        return [self._results[index] for index in range(len(self._items))]

    def end(self) -> None:
        for pipe, worker in self._workers.items():
            pipe.close()
            if worker.is_alive():
                worker.terminate()
        for worker in self._workers.values():
            worker.join(5)
            if worker.is_alive():  # stuck in a system call
                worker.kill()
                worker.join()

    def _hand_out(self, pipe: Connection) -> None:
        if self._waiting:
            index = self._waiting.pop()
            self._in_hand[pipe] = index
            with contextlib.suppress(OSError):  # a worker that is gone shows at its sentinel, by the case's name
                pipe.send(self._items[index][1])

    def _take(self, pipe: Connection, progress: Progress) -> None:
        index = self._in_hand.pop(pipe)
        name = self._items[index][0]
        try:
            kind, content = pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died(name, self._workers[pipe]) from error
        if kind == "error":
            raise content.located(case=name)
        if kind == "traceback":
            raise _failed(name, content)
        self._results[index] = content
        progress.step(name)

    def _died(self, name: str, worker: BaseProcess) -> GdmError:
        worker.join(5)
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    _one_thread()
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[str, Any] = ("result", function(*arguments))
        except GdmError as error:
            answer = ("error", error)
        except Exception:  # every failure must reach the parent, with its traceback
            answer = ("traceback", traceback.format_exc())
        try:
            pipe.send(answer)
        except (TypeError, AttributeError, pickle.PicklingError):
            # A result that cannot be sent; nothing of it is in the pipe yet, since it is pickled first.
            pipe.send(("traceback", traceback.format_exc()))


def _one_thread() -> None:
    """The workers are the parallelism: threads inside them would only compete."""
    threadpool_limits(1)
    # Importing torch takes seconds and hundreds of megabytes per worker, and not every function needs it.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _failed(name: str, trace: str) -> GdmError:
    return GdmError("the work on a case failed", case=name, found=f"\n{trace}")
