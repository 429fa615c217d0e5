"""Threads that read ahead and write behind while the main thread computes, a bounded number of cases at a time."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, NoReturn, TypeVar

from gdmunet.ending import abandon_threads
from gdmunet.errors import GdmError
from gdmunet.patience import LOOK_SECONDS, Patience, stuck, thread_time

T = TypeVar("T")


class _Job(Generic[T]):
    """A call, and the thread of the system that makes it."""

    def __init__(self, function: Callable[..., T], arguments: tuple[object, ...]) -> None:
        self._function, self._arguments = function, arguments
        self.thread: int | None = None

    def run(self) -> T:
        self.thread = threading.get_native_id()
        return self._function(*self._arguments)


class Stage(Generic[T]):
    """Jobs in order of submission, each for one case; a failure names its case.

    Parameters
    ----------
    workers
        Number of threads, and of jobs that may be in work or wait to be taken; 0: jobs run where they are submitted, so
        that one case at a time is in memory.
    name
        Name of the threads.

    Attributes
    ----------
    waited
        Seconds that `take` has waited; without threads, those that the jobs took.

    Notes
    -----
    As a context it ends in order when the body does, and drops the jobs that have not begun when the body fails or
    is interrupted; those in work end first, so no file is left half written.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(workers, name) if workers > 0 else None
        self._pending: deque[tuple[str, Future[T]]] = deque()
        self._jobs: dict[str, _Job[T]] = {}
        self._name, self._stuck = name, False
        self.capacity = max(1, workers)
        self.ahead = workers > 0
        self.waited = 0.0

    @property
    def full(self) -> bool:
        """No more jobs fit until one is taken."""
        return len(self._pending) >= self.capacity

    def submit(self, identifier: str, function: Callable[..., T], *arguments: object) -> None:
        """Start a job for a case."""
        if self._pool is not None:
            job = _Job(function, arguments)
            self._pending.append((identifier, self._pool.submit(job.run)))
            self._jobs[identifier] = job
            return
        done: Future[T] = Future()
        started = time.perf_counter()
        try:
            done.set_result(function(*arguments))
        except Exception as error:
            done.set_exception(error)
        self.waited += time.perf_counter() - started
        self._pending.append((identifier, done))

    def take(self) -> T:
        """Wait for the oldest job and give its result, or raise its failure."""
        identifier, future = self._pending.popleft()
        started = time.perf_counter()
        try:
            return self._result(identifier, future)
        except Exception as error:
            raise_named(identifier, error)
        finally:
            self.waited += time.perf_counter() - started

    def _result(self, identifier: str, future: Future[T]) -> T:
        """The result, unless the thread does nothing for too long: a disk that does not answer."""
        patience, job = Patience(), self._jobs.pop(identifier, None)
        while True:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                if future.done():  # the job's own
                    raise
            if job is not None and patience.lost([(0, lambda: thread_time(job.thread))]):
                self._stuck = True
                abandon_threads()
                problem = f"a thread that should {self._name} does nothing"
                raise stuck(problem, case=identifier, pid=os.getpid(), limit=patience.limit)

    def take_all(self) -> None:
        """Wait for all jobs."""
        while self._pending:
            self.take()

    def check(self) -> None:
        """Raise the failure of any job that has ended, without waiting."""
        for identifier, future in self._pending:
            error = future.exception() if future.done() else None
            if error is not None:
                raise_named(identifier, error)

    def __enter__(self) -> Stage[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=not self._stuck, cancel_futures=kind is not None)


def raise_named(identifier: str, error: BaseException) -> NoReturn:
    """Raise the same failure with its case; one that names a case already keeps it."""
    if isinstance(error, GdmError):
        raise error.located(case=identifier)
    error.add_note(f"in case {identifier}")
    raise error
