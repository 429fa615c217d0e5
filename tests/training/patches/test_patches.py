import dataclasses
import os
import time

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from toy import DATASET, toy_configuration

from gdmunet.errors import GdmError
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.loader_memory import loader_bytes
from gdmunet.training.patches.augmentation import Augmentation, Sample, hu_intensity, mr_intensity
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
    stream = BatchStream(loader, workers, pin_memory=False)
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
    whole = next(PatchLoader(source_of(toy), Augmentation(), 4, 0))
    halves = [next(PatchLoader(source_of(toy), Augmentation(), 2, 0, first_place=k)) for k in (0, 2)]
    assert np.array_equal(whole["condition"], np.concatenate([half["condition"] for half in halves]))


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
    _, sample = source.draw(0, 0, None)
    corner = sample.target[0, 0, 0, 0]
    assert corner == pytest.approx(-1024 / 500)
    assert sample.mask[0, 0, 0, 0] == 0
    assert sample.condition[0, 0, 0, 0] <= sample.condition.min() + 1e-6


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("move", [True, False])
def test_condition_target_and_mask_move_alike(dimensions, move):
    augmentation = Augmentation(rotation=30.0, intensity=None)
    patch = (24,) * dimensions
    size = augmentation.margin(patch) if move else patch
    smooth = np.zeros(size, np.float32)
    smooth[tuple(slice(s // 4, s // 2) for s in size)] = 1.0
    image = gaussian_filter(smooth, 2).astype(np.float32) * 3
    mask = (image > 0.5).astype(np.float32)
    for seed in range(5):
        np.random.seed(seed)
        moved = augmentation.apply(
            Sample(image[None], 2 * image[None], mask[None]), patch, move, np.zeros(2, np.float32)
        )
        assert moved.condition.shape == (1, *patch)
        np.testing.assert_allclose(moved.target, 2 * moved.condition, atol=1e-4)
        inside = moved.condition[moved.mask > 0]
        assert inside.size
        assert inside.min() > 0.25
        assert moved.condition[moved.mask == 0].max() < 0.8


def test_the_border_of_a_moved_patch_is_each_channels_air():
    augmentation = Augmentation(rotation=40.0, mirror=False)
    np.random.seed(1)
    sample = Sample(
        np.ones((1, 8, 8, 8), np.float32), np.ones((1, 8, 8, 8), np.float32), np.ones((1, 8, 8, 8), np.float32)
    )
    moved = augmentation.apply(sample, (16, 16, 16), True, np.array([-3.0, -2.0], np.float32))
    assert moved.condition[0, 0, 0, 0] == pytest.approx(-3.0)
    assert moved.target[0, 0, 0, 0] == pytest.approx(-2.0)
    assert moved.mask[0, 0, 0, 0] == 0


@pytest.mark.parametrize("intensity", [mr_intensity(), hu_intensity()])
def test_intensity_changes_touch_the_condition_alone(intensity):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 16, 16, 16)).astype(np.float32)
    augmentation = Augmentation(mirror=False, intensity=intensity)
    changed = 0
    for seed in range(30):
        np.random.seed(seed)
        sample = Sample(image.copy(), image.copy(), np.ones_like(image))
        moved = augmentation.apply(sample, (16, 16, 16), False, np.zeros(2, np.float32))
        assert np.array_equal(moved.target, image)
        changed += not np.array_equal(moved.condition, image)
    assert changed > 0


def test_a_moved_patch_never_looks_over_the_edge_of_its_margin():
    augmentation = Augmentation(rotation=15.0, mirror=False)
    patch = (20, 24, 28)
    size = augmentation.margin(patch)
    ones = np.ones((1, *size), np.float32)
    for seed in range(10):
        np.random.seed(seed)
        moved = augmentation.apply(Sample(ones, ones, ones), patch, True, np.full(2, -9.0, np.float32))
        assert moved.condition.min() > 0.9


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_worker_ends_the_stream_with_an_error_and_closing_never_hangs(toy):
    # Patches larger than a pipe's buffer and all queues full, so that the worker dies in the middle of a message.
    stream = BatchStream(PatchLoader(source_of(toy, window_size=(64, 64, 64)), None, 4, 1), 1, pin_memory=False)
    next(stream)
    threads = [stream._augmenter.pin_memory_thread, *stream._fetcher._threads]
    while not stream._augmenter.pin_memory_queue.full():
        time.sleep(0.01)
    time.sleep(1)
    for worker in stream._augmenter._processes:
        worker.kill()
        worker.join()
    with pytest.raises((GdmError, RuntimeError), match=r"died|no longer alive"):
        [next(stream) for _ in range(20)]
    stream.close()
    for thread in threads:  # Python waits at exit for the one that fetches
        thread.join(timeout=20)
        assert not thread.is_alive()


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
