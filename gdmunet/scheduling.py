"""Cases on the workers of a Dask scheduler, on other machines too; paths must mean the same to every worker.

The graph holds the names of functions and files, never a volume, and of many cases the next ones alone. Dask gives a
case again if its worker dies, and this module makes a person's words of what else can go wrong.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gdmunet.errors import GdmError
from gdmunet.progress import Progress
from gdmunet.version import __version__

Item = tuple[str, tuple[Any, ...]]
Answer = tuple[str, Any]

# Seconds in which a scheduler answers.
_CONNECT = 20
_LOCAL = "local:"
# Cases that a scheduler holds at one time: those of an archive would fill its memory.
_AHEAD = 500


def run_on_scheduler(
    work: Callable[..., Answer], items: Sequence[Item], address: str, progress: Progress
) -> Iterator[tuple[int, Answer]]:
    """Call ``work(*arguments)`` for each item on the workers of a scheduler; gives the place and answer of each.

    Parameters
    ----------
    work
        Function at module level, whose answer says of a failure what it was.
    address
        ``tcp://host:8786``, or ``local:N`` for N workers of this machine.

    Raises
    ------
    GdmError
        Dask is not installed; the scheduler does not answer, or goes away; a worker has another version; a case that
        was given to several workers, each of which died.
    """
    distributed = _dask()
    run = uuid.uuid4().hex  # a scheduler takes one key for one task, whoever asks
    with _client(distributed, address) as client:
        _check_versions(client, address)
        futures: dict[Any, int] = {}
        answered, waiting = distributed.as_completed(loop=client.loop), iter(enumerate(items))

        def give_out(number: int) -> None:
            for index, (name, arguments) in itertools.islice(waiting, number):
                key = f"{progress.title}-{index}-{name}-{run}"
                future = client.submit(_called, _packed(work, arguments), key=key, pure=False)
                futures[future] = index
                answered.add(future)

        try:
            give_out(max(_AHEAD, 4 * sum(client.nthreads().values())))
            for future in answered:
                index = futures.pop(future)
                give_out(1)
                yield index, _answer(distributed, future, items[index][0], address)
        finally:
            with contextlib.suppress(Exception):  # a scheduler that is gone
                client.cancel(list(futures))


def _packed(work: Callable[..., Answer], arguments: tuple[Any, ...]) -> bytes:
    """A call as bytes: a scheduler reads what it hands on, and would import all that its workers need."""
    import cloudpickle

    content: bytes = cloudpickle.dumps((work, arguments))
    return content


def _called(content: bytes) -> Answer:
    """Make a packed call, in a worker."""
    work, arguments = pickle.loads(content)
    answer: Answer = work(*arguments)
    return answer


def _answer(distributed: Any, future: Any, name: str, address: str) -> Answer:
    from concurrent.futures import CancelledError

    try:
        answer: Answer = future.result()
    except distributed.scheduler.KilledWorker as error:
        raise GdmError(
            "the workers of a case died",
            case=name,
            found=f"{error.allowed_failures + 1} workers of {address}, one after another",
            remedy="often memory ran out: start workers with more memory, or with fewer threads",
        ) from error
    except (CancelledError, OSError, TimeoutError) as error:
        raise _gone(address, error) from error
    except Exception as error:  # of Dask itself: the work answers its own errors
        raise GdmError(
            "the scheduler cannot give a case to a worker",
            case=name,
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else address}",
            remedy="install the same versions of gdmunet and Dask for the scheduler and every worker",
        ) from error
    return answer


@contextlib.contextmanager
def _client(distributed: Any, address: str) -> Iterator[Any]:
    """A client of the scheduler, or of workers of this machine that end with it."""
    import dask

    settings = {"distributed.comm.timeouts.connect": _CONNECT, "distributed.worker.daemon": False}
    with contextlib.ExitStack() as opened:
        opened.enter_context(dask.config.set(settings))
        try:
            if address.startswith(_LOCAL):
                cluster = distributed.LocalCluster(
                    n_workers=_count(address), threads_per_worker=1, processes=True, dashboard_address=None
                )
                opened.enter_context(cluster)
                client = distributed.Client(cluster, set_as_default=False)
            else:
                client = distributed.Client(address, timeout=_CONNECT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise GdmError(
                "the scheduler does not answer",
                found=f"{address}: {error}",
                expected="tcp://HOST:PORT of a running Dask scheduler, or local:N",
                remedy="start it (dask scheduler) and its workers (dask worker tcp://HOST:PORT --nthreads 1)",
            ) from error
        opened.callback(_close, client)
        yield client


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):  # a scheduler that is gone: nothing is left to close
        client.close(timeout=5)


def _count(address: str) -> int:
    text = address.removeprefix(_LOCAL)
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is not a number of workers")
    return int(text)


def _check_versions(client: Any, address: str) -> None:
    """Refuse workers that have no gdmunet, or another one: their files would be of another kind."""
    try:
        found = client.run(_version, on_error="return")
    except OSError as error:
        raise _gone(address, error) from error
    other = {worker: version for worker, version in found.items() if version != __version__}
    if other:
        worker, version = next(iter(other.items()))
        raise GdmError(
            "a worker has another version of gdmunet",
            found=f"{version if isinstance(version, str) else 'none'} on {worker}",
            expected=__version__,
            remedy="install the same version on every worker, and start the workers again",
        )


def own_share(seen: Callable[[], tuple[str, ...]], what: str) -> str:
    """In a worker: the one of several things, such as GPUs, that this worker alone of its machine takes.

    Parameters
    ----------
    seen
        Function at module level that names the things which a worker sees; all workers of the machine are asked.
    what
        One of them in words, such as ``GPU``.

    Raises
    ------
    GdmError
        The machine has more workers than things that they see.
    """
    distributed = _dask()
    worker, client = distributed.get_worker(), distributed.get_client()
    host_of = distributed.comm.get_address_host
    host = host_of(worker.address)
    beside = [address for address in client.nthreads() if host_of(address) == host]
    found = client.run(seen, workers=beside)
    taken = share_out(found)
    if worker.address not in taken:
        raise GdmError(
            f"a worker has no {what} of its own",
            found=f"{len(beside)} workers on {host}, which see {len(set().union(*found.values()))} of this kind",
            expected=f"one worker for each {what}",
            remedy=f"start one worker for each {what} of a machine, or local:N with the number of them",
        )
    return taken[worker.address]


def share_out(seen: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Give each worker the first thing that it sees and none before it has; the same in every worker that asks."""
    taken: dict[str, str] = {}
    for worker in sorted(seen, key=lambda worker: (len(seen[worker]), worker)):  # who has no choice comes first
        free = [one for one in seen[worker] if one not in taken.values()]
        if free:
            taken[worker] = free[0]
    return taken


def _version() -> str:
    return __version__


def _gone(address: str, error: BaseException) -> GdmError:
    return GdmError(
        "the scheduler has gone while cases were worked on",
        found=f"{address}: {type(error).__name__}",
        remedy="start it again, then run the command again: what commands keep of finished cases is not done twice",
    )


def _dask() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise GdmError(
            "Dask is not installed",
            found=f"no module {error.name}",
            remedy="install it with the extra: pip install 'gdmunet[dask]'",
        ) from error
    return distributed
