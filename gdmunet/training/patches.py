"""Patches from the case store, each a pure function of (seed, iteration, place in the batch).

So the order of batches depends on no worker count, no rank count and no interruption: a run that resumes at
iteration k reads exactly what an uninterrupted one would have read.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from gdmunet.errors import GdmError
from gdmunet.preprocessing.casestore import CaseStore, StoredCase
from gdmunet.preprocessing.preprocessor import border_values
from gdmunet.training.augmentation import Augmentation, Sample
from gdmunet.training.batch import Batch


@dataclass(frozen=True)
class PatchSource:
    """Which patches exist.

    Attributes
    ----------
    store
        Prepared cases.
    identifiers
        Cases to draw from, each equally often.
    window_size
        Patch as three numbers; a 2D patch is one slice thick.
    dimensions
        2 or 3: axes of the patches that are returned.
    background
        Target value where there is no body, raw units.
    body_share
        Chance that a patch is centred on a voxel of the body, instead of anywhere.
    seed
        Names the stream of patches.
    """

    store: CaseStore
    identifiers: tuple[str, ...]
    window_size: tuple[int, int, int]
    dimensions: int
    background: float
    body_share: float
    seed: int

    def draw(self, iteration: int, place: int, augmentation: Augmentation | None) -> tuple[str, Sample]:
        """The patch at `place` of batch `iteration`, augmented or as it is; (case, sample)."""
        seed = np.random.SeedSequence((self.seed, iteration, place))
        rng = np.random.default_rng(seed)
        identifier = self.identifiers[rng.integers(len(self.identifiers))]
        case = self.store.open(identifier)
        move = augmentation is not None and rng.random() < augmentation.spatial_probability
        window = self.window_size
        if move and augmentation is not None:
            flat = augmentation.margin(window[3 - self.dimensions :])
            window = (1,) * (3 - self.dimensions) + flat  # type: ignore[assignment]
        border = self._border(case)
        sample = self._read(case, self._corner(case, window, rng), window, border)
        if augmentation is None:
            return identifier, sample
        patch_size = self.window_size[3 - self.dimensions :]
        with _random_state(int(seed.generate_state(1)[0])):
            return identifier, augmentation.apply(sample, patch_size, move, border)

    def _corner(self, case: StoredCase, window: tuple[int, ...], rng: np.random.Generator) -> list[int]:
        shape = case.mask.shape
        if rng.random() < self.body_share:
            centre = case.body_voxels[rng.integers(len(case.body_voxels))]
        else:
            centre = [rng.integers(size) for size in shape]
        corner = []
        for middle, size, extent in zip(centre, window, shape, strict=True):
            if size >= extent:  # in the middle of the window, to the voxel where prediction puts it
                corner.append(-((size - extent) // 2))
            else:
                corner.append(int(np.clip(int(middle) - size // 2, 0, extent - size)))
        return corner

    def _border(self, case: StoredCase) -> np.ndarray:
        """Value of every channel (conditions, then target) outside a volume, network units: the case's air."""
        air = float(case.properties.target_map.apply(np.asarray(self.background)))
        return np.asarray([*border_values(case.properties), air], np.float32)

    def _read(self, case: StoredCase, corner: list[int], window: tuple[int, ...], border: np.ndarray) -> Sample:
        box = [[low, low + size] for low, size in zip(corner, window, strict=True)]
        channels = case.condition.shape[0]
        data = _crop(case.condition, box, border[:channels])
        target = _crop(case.target, box, border[channels:])
        mask = _crop(case.mask, box, np.zeros(1, np.float32))
        lead = slice(None) if self.dimensions == 3 else 0
        return Sample(data[:, lead], target[:, lead], mask[:, lead])


@contextlib.contextmanager
def _random_state(seed: int) -> Iterator[None]:
    """Give batchgenerators, which draws from both global random states, states of its own."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


def _crop(array: Any, box: list[list[int]], border: np.ndarray) -> np.ndarray:
    """The box of a (z, y, x) or (C, z, y, x) array, as float32 (C, ...); outside lies the channel's border value."""
    lead = array.ndim - 3
    cut = np.asarray(crop_and_pad_nd(array, box, 0), dtype=np.float32)
    cut = cut if lead else cut[None]
    for axis, ((low, _), size) in enumerate(zip(box, array.shape[lead:], strict=True), start=1):
        for outside in (slice(0, max(0, -low)), slice(max(0, size - low), None)):
            cut[(slice(None),) * axis + (outside,)] = border[:, None, None, None]
    return cut


class PatchLoader(SlimDataLoaderBase):
    """batchgenerators loader over a `PatchSource`; worker k of n makes batches k, k + n, ... after `start`.

    Parameters
    ----------
    source, augmentation
        What to draw.
    batch_size
        Patches that this rank gets a batch.
    start
        Number of the first batch.
    first_place
        Place in the whole batch of this rank's first patch.
    """

    def __init__(
        self,
        source: PatchSource,
        augmentation: Augmentation | None,
        batch_size: int,
        workers: int,
        start: int = 0,
        first_place: int = 0,
    ) -> None:
        super().__init__(source, batch_size, max(1, workers))
        self.source, self.augmentation = source, augmentation
        self.first_place, self._next = first_place, start
        self._in_worker, self._placed = workers > 0, False

    def generate_train_batch(self) -> dict:
        """One batch as the dictionary that batchgenerators passes on."""
        if not self._placed:
            self._placed = True
            self._next += self.thread_id
            if self._in_worker:
                # Ctrl-C belongs to the trainer, which saves and then ends its workers by SIGTERM.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                torch.set_num_threads(1)
        drawn = [
            self.source.draw(self._next, self.first_place + place, self.augmentation)
            for place in range(self.batch_size)
        ]
        self._next += self.number_of_threads_in_multithreaded or 1
        samples = [sample for _, sample in drawn]
        return {
            "condition": np.stack([s.condition for s in samples]),
            "target": np.stack([s.target for s in samples]),
            "mask": np.stack([s.mask for s in samples]),
            "identifiers": tuple(identifier for identifier, _ in drawn),
        }


class BatchStream:
    """Endless batches from `workers` background processes, or made in this one where `workers` is 0.

    Arrays come through pipes, not as shared tensors, so a worker may end while its last batches are still on the
    way. One thread fetches (and pins) the next batch while the device computes.
    """

    def __init__(self, loader: PatchLoader, workers: int, pin_memory: bool) -> None:
        self._pin = pin_memory
        self._fetcher: ThreadPoolExecutor | None = None
        self._augmenter: SingleThreadedAugmenter | MultiThreadedAugmenter = SingleThreadedAugmenter(loader, None)
        if workers:
            self._augmenter = MultiThreadedAugmenter(loader, None, workers, num_cached_per_queue=2, wait_time=0.002)
            self._fetcher = ThreadPoolExecutor(1, "patches")
            self._coming = self._fetcher.submit(self._fetch)

    def __next__(self) -> Batch:
        if self._fetcher is None:
            return self._fetch()
        while True:
            try:
                batch = self._coming.result(timeout=5)
                break
            except TimeoutError:
                self._check_workers()
        self._coming = self._fetcher.submit(self._fetch)
        return batch

    def close(self) -> None:
        """End the background processes.

        They are killed, not asked: batchgenerators' own way out reads what is left in the pipes, and waits for ever
        for the rest of a message whose sender is gone (a whole job that is sent SIGTERM). They only read files.
        """
        augmenter = self._augmenter
        if self._fetcher is None or not isinstance(augmenter, MultiThreadedAugmenter):
            return
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
        """A worker that died in the middle of a message leaves its reader waiting: end the run instead."""
        dead = [w for w in getattr(self._augmenter, "_processes", []) if not w.is_alive()]
        if dead:
            raise GdmError(
                "a process that makes patches died",
                found=f"exit code {dead[0].exitcode}",
                remedy="often memory ran out: use fewer workers (-np), then continue with --c",
            )

    def _fetch(self) -> Batch:
        batch = Batch.from_arrays(next(self._augmenter))
        return batch.pinned() if self._pin else batch


def default_loader_workers(device: torch.device, processes: int = 1) -> int:
    """Background processes that make patches: many for a GPU, one where training itself needs the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(12, cores // processes - 1)) if device.type == "cuda" else 1
