"""Batches of patches, made in background processes by batchgenerators' loader or in this process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Self

import psutil
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter

from gdmunet.device import usable_cores
from gdmunet.ending import end_with_parent, ending_signals
from gdmunet.errors import SIGNALLED, GdmError, signal_name
from gdmunet.out_of_memory import is_out_of_memory
from gdmunet.patience import LOOK_SECONDS, Patience, processor_time, stuck
from gdmunet.plans import Configuration
from gdmunet.preprocessing.loader_memory import most_loaders
from gdmunet.quantities import memory_size
from gdmunet.training.patches.augmentation import Augmentation
from gdmunet.training.patches.batch import Batch
from gdmunet.training.patches.crops import Crops
from gdmunet.training.patches.source import PatchSource
from gdmunet.training.patches.thread_errors import ThreadErrors

# Key of a failure in what a worker sends.
_FAILURE = "failure"
CPU = torch.device("cpu")


class PatchLoader:
    """Endless batches of a `PatchSource`; worker k of n makes batches k, k + n, ... after `start`.

    For a GPU only crops and numbers leave a reading process, and the device augments; for any other device the reading
    process augments too.

    Parameters
    ----------
    source, augmentation
        Source of the patches and their augmentation.
    batch_size
        Patches of a batch that this rank gets.
    workers
        Processes that share the batches; 0: they are made in this process.
    start
        Number of the first batch.
    first_place
        Place in the whole batch of this rank's first patch.
    device
        Device that the batches are for.
    """

    def __init__(
        self,
        source: PatchSource,
        augmentation: Augmentation | None,
        batch_size: int,
        workers: int,
        start: int = 0,
        first_place: int = 0,
        device: torch.device = CPU,
    ) -> None:
        self.source, self.augmentation, self.batch_size = source, augmentation, batch_size
        self.first_place, self.device, self._next = first_place, device, start
        self._stride = max(1, workers)

    def set_thread_id(self, worker: int) -> None:
        """Begin as a worker; batchgenerators calls it there."""
        self._next += worker
        _leave_signals_to_the_trainer()
        torch.set_num_threads(1)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        """One batch as the dictionary that batchgenerators passes on."""
        crops = self.source.read(self._next, self._places, self.augmentation)
        self._next += self._stride
        if self._augments_on_device:
            return crops.to_message()
        with _one_thread():
            return crops.finish(self.augmentation).to_message()

    def cases_of(self, number: int) -> str:
        """The cases of a batch, for people."""
        return ", ".join(dict.fromkeys(self.source.identifiers_of(number, self._places)))

    @property
    def next_number(self) -> int:
        """Number of the batch that comes next here."""
        return self._next

    @property
    def _places(self) -> range:
        return range(self.first_place, self.first_place + self.batch_size)

    def receive(self, message: dict[str, Any]) -> Crops | Batch:
        """What `__next__` sent, in page-locked memory where a GPU reads it."""
        return Crops.from_message(message).pinned() if self._augments_on_device else Batch.from_message(message)

    def finish(self, received: Crops | Batch) -> Batch:
        """The batch on the device; nothing waits for it."""
        on_device = received.to(self.device)
        return on_device.finish(self.augmentation) if isinstance(on_device, Crops) else on_device

    def next_batch(self) -> Batch:
        """The next batch, made in this process."""
        return self.finish(self.receive(next(self)))

    @property
    def _augments_on_device(self) -> bool:
        return self.device.type == "cuda"


class _SpeakingLoader:
    """A loader in a background process, whose failures come as messages: batchgenerators would print and hide them."""

    def __init__(self, loader: PatchLoader) -> None:
        self._loader = loader

    def set_thread_id(self, worker: int) -> None:
        """Begin as a worker; batchgenerators calls it there."""
        self._loader.set_thread_id(worker)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            return next(self._loader)
        except GdmError as error:
            return {_FAILURE: error}
        except Exception as error:  # every failure must reach the trainer, with its traceback
            if is_out_of_memory(error):
                return {_FAILURE: _memory_error(self._loader, error)}
            remedy = "mend the transform or the case that it names; else this is a fault of gdmunet: report it"
            return {_FAILURE: GdmError("patches could not be made", found=f"\n{traceback.format_exc()}", remedy=remedy)}


class BatchStream:
    """Endless batches from `workers` background processes, or made in this one where `workers` is 0.

    Arrays come through pipes, not as shared tensors, so a worker may end while its last batches are still on the
    way. One thread fetches (and pins) the next batch while the device computes.
    """

    def __init__(self, loader: PatchLoader, workers: int) -> None:
        self._loader = loader
        self._fetcher: ThreadPoolExecutor | None = None
        self._augmenter: MultiThreadedAugmenter | None = None
        self._number = loader.next_number
        self._patience = Patience()
        if workers:
            speaking = _SpeakingLoader(loader)
            self._augmenter = MultiThreadedAugmenter(speaking, None, workers, num_cached_per_queue=2, wait_time=0.002)
            self._reader = ThreadErrors(self._augmenter, "pin_memory_thread")
            self._fetcher = ThreadPoolExecutor(1, "patches")
            self._coming = self._fetcher.submit(self._fetch, self._augmenter)
            # Whatever ends this process: its workers do not end by the SIGTERM that Python would wait for.
            atexit.register(self.close)

    def __next__(self) -> Batch:
        if self._fetcher is None:
            return self._loader.next_batch()
        while True:
            try:
                received = self._coming.result(timeout=LOOK_SECONDS)
                break
            except TimeoutError:
                self._check_workers()
            except RuntimeError as error:  # batchgenerators', whose worker has ended
                self._check_workers()
                raise _died("ended") from error
        self._number += 1
        self._patience = Patience()
        self._coming = self._fetcher.submit(self._fetch, self._augmenter)
        return self._loader.finish(received)

    def close(self) -> None:
        """End the background processes.

        They are killed, not asked: batchgenerators' own way out reads what is left in the pipes, and waits for ever
        for the rest of a message whose sender is gone (a whole job that is sent SIGTERM). They only read files.
        """
        augmenter = self._augmenter
        if self._fetcher is None or augmenter is None:
            return
        atexit.unregister(self.close)
        augmenter.abort_event.set()
        if augmenter.pin_memory_thread is not None:
            augmenter.pin_memory_thread.join(timeout=1)
        for worker in augmenter._processes:
            worker.kill()
            worker.join()
        for queue in augmenter._queues:
            # This process holds a writing end too: without closing it, a thread that reads half a message never
            # sees the end of the pipe, and Python waits for that thread at exit.
            queue._writer.close()
            queue.cancel_join_thread()
            queue.close()
        self._fetcher.shutdown(wait=False, cancel_futures=True)
        augmenter._processes, augmenter._queues, augmenter.was_initialized = [], [], False

    def _check_workers(self) -> None:
        """A worker that died, or that does nothing for too long, leaves its reader waiting: end the run instead."""
        workers = getattr(self._augmenter, "_processes", [])
        for worker in workers:
            if not worker.is_alive():
                code = worker.exitcode
                killed = code is not None and code < 0
                raise _died(f"killed by {signal_name(-code)}" if killed else f"exit code {code}")
        if not workers:
            return
        unread = self._reader.error
        if unread is not None:
            raise _died(f"what it sent could not be read ({unread})") from unread
        maker = workers[(self._number - self._loader.next_number) % len(workers)].pid
        for pid in self._patience.lost([(maker, functools.partial(processor_time, maker))]):
            case = self._loader.cases_of(self._number)
            raise stuck("a process that makes patches does nothing", case=case, pid=pid, limit=self._patience.limit)

    def _fetch(self, augmenter: MultiThreadedAugmenter) -> Crops | Batch:
        message = next(augmenter)
        if _FAILURE in message:
            raise message[_FAILURE]
        return self._loader.receive(message)


def _died(how: str) -> GdmError:
    return GdmError(
        "a process that makes patches died",
        found=how,
        remedy="often memory ran out: use fewer workers (-np), then continue with --c",
    )


def _memory_error(loader: PatchLoader, error: BaseException) -> GdmError:
    host = psutil.virtual_memory()
    return GdmError(
        "a process that makes patches ran out of memory",
        case=loader.cases_of(loader.next_number),
        found=f"{memory_size(host.available)} free of {memory_size(host.total)} ({type(error).__name__})",
        remedy="use fewer workers (-np), then continue with --c",
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over a patch end on the same bits in a worker, which has one thread, and in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _leave_signals_to_the_trainer() -> None:
    """Ctrl-C and a job's SIGTERM reach the trainer as well, which saves and then ends its workers.

    A worker whose trainer is gone ends by SIGTERM as any process.
    """
    trainer = os.getppid()
    end_with_parent()

    def end_if_alone(number: int, _frame: FrameType | None) -> None:
        if os.getppid() != trainer:
            os._exit(SIGNALLED + number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in ending_signals():
        signal.signal(number, end_if_alone)


def default_loader_workers(
    device: torch.device, configuration: Configuration, processes: int = 1, free: int | None = None
) -> int:
    """Background processes that make patches: many for a GPU, one where training itself needs the cores.

    Parameters
    ----------
    processes
        Training processes that share the computer; the number is that of each.
    free
        Bytes of host memory that are free; None: asked of the system.
    """
    if device.type != "cuda":
        return 1
    free = psutil.virtual_memory().available if free is None else free
    fitting = most_loaders(configuration, configuration.batch_size // processes, free) // processes
    return max(1, min(12, usable_cores() // processes - 1, fitting))
