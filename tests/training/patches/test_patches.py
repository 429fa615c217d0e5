import dataclasses
import os
import pickle
import signal
import time

import numpy as np
import pytest
import torch
from toy import DATASET, toy_configuration

from gdmunet import patience
from gdmunet.errors import GdmError
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.loader_memory import loader_bytes
from gdmunet.training.patches.augmentation import Augmentation, Sample
from gdmunet.training.patches.crops import Crops
from gdmunet.training.patches.intensity import Noise, mr_intensity
from gdmunet.training.patches.source import PatchSource
from gdmunet.training.patches.stream import BatchStream, PatchLoader, default_loader_workers


def source_of(toy, name="3d_fullres", **changes) -> PatchSource:
    plans, folders = toy
    configuration = plans.configurations[name]
    store = CaseStore(folders.preprocessed / DATASET, plans.name, name)
    source = PatchSource(
        store, tuple(store.identifiers()), configuration.window_size, configuration.dimensions, -1024.0, 1.0, 3
    )
    return dataclasses.replace(source, **changes)


def draw(source, workers=0, start=0, count=4, augmentation=None, size=2):
    loader = PatchLoader(source, augmentation or Augmentation(intensity=mr_intensity()), size, workers, start)
    stream = BatchStream(loader, workers)
    try:
        return [next(stream) for _ in range(count)]
    finally:
        stream.close()


def same(left, right) -> bool:
    return left.identifiers == right.identifiers and all(
        torch.equal(getattr(left, name), getattr(right, name)) for name in ("condition", "target", "mask")
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(toy, workers):
    alone, shared = draw(source_of(toy), count=12), draw(source_of(toy), workers, count=12)
    assert all(map(same, alone, shared))


def test_a_stream_that_starts_later_continues_the_same_batches(toy):
    assert all(map(same, draw(source_of(toy), count=4)[2:], draw(source_of(toy), start=2, count=2)))


def test_two_ranks_share_the_batch_of_one(toy):
    augmentation = Augmentation(spatial_probability=0.5, intensity=mr_intensity())
    whole = PatchLoader(source_of(toy), augmentation, 4, 0).next_batch()
    halves = [PatchLoader(source_of(toy), augmentation, 2, 0, first_place=k).next_batch() for k in (0, 2)]
    assert torch.equal(whole.condition, torch.cat([half.condition for half in halves]))
    assert torch.equal(whole.mask, torch.cat([half.mask for half in halves]))


def test_global_random_state_is_left_alone(toy):
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    draw(source_of(toy))
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_patches_have_the_planned_shape(toy, name):
    batch = draw(source_of(toy, name), count=1)[0]
    shape = (2, 1, *toy[0].configurations[name].patch_size)
    assert batch.condition.shape == batch.target.shape == batch.mask.shape == shape
    assert set(batch.mask.unique().tolist()) <= {0.0, 1.0}


def test_outside_a_volume_smaller_than_the_patch_lies_air(toy):
    source = source_of(toy, window_size=(32, 32, 32))
    crops = source.read(0, [0], None)
    (((condition, target), mask),) = crops.views()
    assert target[0, 0, 0].item() == pytest.approx(-1024 / 500)
    assert mask[0, 0, 0, 0] == 0
    assert condition[0, 0, 0] <= condition.min() + 1e-6
    inside = source.store.open(crops.labels[0].identifier).target[0]
    place = tuple(slice((32 - size) // 2, (32 - size) // 2 + size) for size in inside.shape)
    assert np.array_equal(target[place], inside)


def test_a_gpus_loader_sends_crops_and_seeds_that_become_the_same_batch(toy):
    augmentation = Augmentation(spatial_probability=0.5, intensity=mr_intensity())
    sends = PatchLoader(source_of(toy), augmentation, 2, 0, device=torch.device("cuda"))
    makes = PatchLoader(source_of(toy), augmentation, 2, 0)
    for _ in range(6):
        crops = Crops.from_message(pickle.loads(pickle.dumps(next(sends))))
        assert crops.mask.dtype == torch.uint8
        assert same(crops.finish(augmentation), makes.next_batch())


@pytest.mark.gpu
def test_a_gpu_makes_the_patches_that_a_cpu_makes(toy):
    """Noise aside, whose numbers are those of a device; within 0.02 HU where a patch is rotated."""
    quiet = tuple(one for one in mr_intensity() if not isinstance(one, Noise))
    augmentation = Augmentation(spatial_probability=0.5, intensity=quiet)
    gpu = PatchLoader(source_of(toy), augmentation, 2, 0, device=torch.device("cuda"))
    cpu = PatchLoader(source_of(toy), augmentation, 2, 0)
    for _ in range(8):
        made, expected = gpu.next_batch(), cpu.next_batch()
        assert made.condition.is_cuda
        assert made.identifiers == expected.identifiers
        torch.testing.assert_close(made.target.cpu(), expected.target, atol=4e-5, rtol=0)
        torch.testing.assert_close(made.condition.cpu(), expected.condition, atol=1e-3, rtol=0)
        assert (made.mask.cpu() != expected.mask).float().mean() < 1e-3


def test_the_number_of_threads_does_not_change_a_batch(toy):
    one = draw(source_of(toy))
    torch.set_num_threads(2)
    try:
        two = draw(source_of(toy))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert all(map(same, one, two))


def test_a_case_without_a_target_is_refused(toy, monkeypatch):
    source = source_of(toy)
    opened = CaseStore.open
    monkeypatch.setattr(CaseStore, "open", lambda *case: dataclasses.replace(opened(*case), target=None))
    with pytest.raises(GdmError, match="without a target"):
        source.read(0, [0], None)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_moved_patch_shows_what_lies_about_its_centre(dimensions):
    """A crop of coordinates, moved: every voxel of condition, target and mask says the place that the matrix names."""
    source = CoordinateSource((64, 72, 80)[-dimensions:])
    augmentation = Augmentation(spatial_probability=1.0, rotation=20.0)
    patch = (24, 20, 28)[-dimensions:]
    for seed in range(4):
        change = augmentation.draw(np.random.SeedSequence(seed), dimensions, move=True)
        shape = change.crop_shape(patch)
        crop = source.crop(shape)
        moved = augmentation.apply(crop, change, patch)
        offsets = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij"))
        places = np.einsum("ij,j...->i...", change.matrix, offsets)
        places += source.centre(shape).reshape(-1, *[1] * dimensions)
        places = np.flip(places, [1 + axis for axis in change.flips])
        np.testing.assert_allclose(moved.values.numpy(), places, atol=2e-3)
        np.testing.assert_array_equal(moved.mask[0].numpy(), source.inside(np.round(places)))


class CoordinateSource:
    """A volume whose channels are its own coordinates; its body is a slanted half."""

    def __init__(self, shape):
        self.shape = shape
        self.values = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float32)

    def inside(self, places):
        return (places.sum(axis=0) > sum(self.shape) / 2).astype(np.float32)

    def corner(self, size):
        return [(extent - part) // 2 for extent, part in zip(self.shape, size, strict=True)]

    def centre(self, size):
        return np.array([low + (part - 1) / 2 for low, part in zip(self.corner(size), size, strict=True)])

    def crop(self, size):
        box = tuple(slice(low, low + part) for low, part in zip(self.corner(size), size, strict=True))
        cut = self.values[:, *box]
        return Sample(torch.from_numpy(cut.copy()), torch.from_numpy(self.inside(cut))[None])


def test_a_killed_worker_ends_the_stream_with_an_error_and_closing_never_hangs(toy):
    # Patches larger than a pipe's buffer and all queues full, so that the worker dies in the middle of a message.
    stream = BatchStream(PatchLoader(source_of(toy, window_size=(64, 64, 64)), None, 4, 1), 1)
    next(stream)
    threads = [stream._augmenter.pin_memory_thread, *stream._fetcher._threads]
    while not stream._augmenter.pin_memory_queue.full():
        time.sleep(0.01)
    time.sleep(1)
    for worker in stream._augmenter._processes:
        worker.kill()
        worker.join()
    with pytest.raises(GdmError, match="a process that makes patches died"):  # and not the loader's own words
        [next(stream) for _ in range(20)]
    stream.close()
    for thread in threads:  # Python waits at exit for the one that fetches
        thread.join(timeout=20)
        assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes are stopped by a signal of POSIX systems")
def test_a_stopped_worker_ends_the_stream_by_its_cases(toy, monkeypatch):
    monkeypatch.setattr(patience, "_LIMIT", [1.5])
    source = source_of(toy)
    stream = BatchStream(PatchLoader(source, None, 2, 1), 1)
    try:
        next(stream)
        os.kill(stream._augmenter._processes[0].pid, signal.SIGSTOP)
        with pytest.raises(GdmError, match="a process that makes patches does nothing") as caught:
            [next(stream) for _ in range(20)]  # what lies in the queues comes first
    finally:
        stream.close()
    assert any(case in caught.value.case for case in source.identifiers)
    assert "stopped" in caught.value.found


def test_no_more_processes_make_patches_than_host_memory_holds(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    configuration = dataclasses.replace(toy_configuration(), patch_size=(160, 160, 160), batch_size=4)
    each, gpu = loader_bytes(configuration, 4), torch.device("cuda")
    assert each > 1.3e9
    assert default_loader_workers(gpu, configuration, free=10**12) == 12
    assert default_loader_workers(gpu, configuration, free=10 * each) == 5
    assert default_loader_workers(gpu, configuration, free=0) == 1
    halves = loader_bytes(configuration, 2)
    assert default_loader_workers(gpu, configuration, processes=2, free=12 * halves) == 3
    assert default_loader_workers(torch.device("cpu"), configuration, free=10**12) == 1
