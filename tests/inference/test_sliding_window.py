import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gdmunet.errors import GdmError
from gdmunet.inference import sliding_window
from gdmunet.inference.window_options import WindowCount, WindowOptions
from gdmunet.inference.windows import plan_windows, window_shares, window_starts, window_weight
from gdmunet.preprocessing.memory import LiveBytes


def first_channel(batch: torch.Tensor) -> torch.Tensor:
    return batch[:, :1]


class Convolution(torch.nn.Module):
    """Depends on the neighbourhood and, through the coordinates, on the position inside the window."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = torch.nn.Conv3d(channels, 1, 3, padding=1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, batch.shape[-1]) + torch.linspace(0, 2, batch.shape[-3])[:, None, None]
        return self.convolution(batch) + ramp


def predict_volume(network, condition, window, *, mask=None, padding=None, out=None, progress=None, **options):
    """The function under test with its options as keywords."""
    return sliding_window.predict_volume(
        network, condition, window, WindowOptions(**options), mask=mask, padding=padding, out=out, progress=progress
    )


def volume(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("shape", "window"),
    [((17, 13, 21), (8, 8, 8)), ((5, 30, 9), (7, 6, 9)), ((3, 4, 2), (8, 8, 8)), ((9, 11, 12), (1, 6, 5))],
)
def test_the_identity_returns_its_input(shape, window, overlap):
    condition = volume(2, *shape)
    prediction = predict_volume(first_channel, condition, window, step_size=1 - overlap, batch_size=3)
    assert prediction.dtype == np.float32
    np.testing.assert_allclose(prediction, condition[0], atol=1e-5)


@pytest.mark.parametrize("offset", [(1, 0, 0), (3, 2, 1), (3, 3, 3)])
def test_the_identity_returns_its_input_with_a_shifted_grid(offset):
    condition = volume(1, 17, 5, 21)
    prediction = predict_volume(first_channel, condition, (8, 8, 8), offset=offset)
    np.testing.assert_allclose(prediction, condition[0], atol=1e-5)


def test_an_offset_moves_every_window():
    plain, shifted = (plan_windows((40, 40, 40), (16, 16, 16), 0.5, (o, o, o)).starts[0] for o in (0, 4))
    assert plain == (0, 8, 16, 24)
    assert shifted == (-4, 4, 12, 20, 28)
    with pytest.raises(GdmError, match="offset"):
        plan_windows((40, 40, 40), (16, 16, 16), 0.5, (8, 0, 0))


def test_windows_cover_every_voxel_for_all_lengths_windows_and_steps():
    for length, size, step in itertools.product(range(1, 40), range(1, 20), (0.1, 0.3, 0.5, 0.75, 1.0)):
        (starts,) = window_starts((length,), (size,), step)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - size)
        assert all(0 < b - a <= max(1, size * step) for a, b in itertools.pairwise(starts)), (length, size, step)


@pytest.mark.parametrize("step_size", [0, -0.5, 1.5])
def test_a_step_that_leaves_gaps_is_refused(step_size):
    with pytest.raises(GdmError, match="step size"):
        window_starts((10,), (4,), step_size)


@pytest.mark.parametrize("size", [1, 7, 9, 128])
def test_a_window_weighs_most_in_its_middle_and_nowhere_nothing(size):
    weight = window_weight(size)
    assert weight.max() == 1
    assert weight.min() > 0
    np.testing.assert_allclose(weight, weight[::-1], rtol=1e-12)


def test_weights_of_windows_that_overlap_by_half_add_up_to_a_constant():
    weights = window_weight(32)
    np.testing.assert_allclose(weights[:16] + weights[16:], weights[0] + weights[16], rtol=1e-12)
    assert np.abs(np.diff(weights)).max() < np.pi / 32 + 1e-3


@pytest.mark.parametrize("offset", [0, 3])
def test_the_shares_of_all_windows_in_a_voxel_add_up_to_one(offset):
    grid = plan_windows((29, 5, 12), (8, 8, 12), 0.5, (offset, 0, 0))
    for starts, shares, size, length in zip(grid.starts, window_shares(grid), grid.window, grid.shape, strict=True):
        total = np.zeros(length + 2 * size)
        for start, share in zip(starts, shares, strict=True):
            total[size + start : 2 * size + start] += share
        np.testing.assert_allclose(total[size : size + length], 1, rtol=1e-6)
        assert total[:size].max() == total[size + length :].max() == 0


def test_the_result_is_the_weighted_mean_of_the_windows():
    """Against the same sum written as a slow loop over a whole-volume accumulator."""
    condition, window, network = volume(1, 14, 11, 19), (6, 5, 8), Convolution()
    importance = np.prod(np.meshgrid(*map(window_weight, window), indexing="ij"), axis=0)
    total, weights = np.zeros((14, 11, 19)), np.zeros((14, 11, 19))
    for corner in itertools.product(*window_starts((14, 11, 19), window, 0.5)):
        place = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        with torch.no_grad():
            total[place] += importance * network(torch.from_numpy(condition[:, *place])[None])[0, 0].numpy()
        weights[place] += importance
    np.testing.assert_allclose(predict_volume(network, condition, window), total / weights, atol=1e-5)


@pytest.mark.parametrize("window", [(8, 8, 8), (1, 8, 8)])
def test_the_batch_does_not_change_the_result(window):
    condition, network = volume(1, 19, 17, 13), Convolution()
    one = predict_volume(network, condition, window, batch_size=1)
    for batch_size in (2, 5, 100):
        np.testing.assert_allclose(predict_volume(network, condition, window, batch_size=batch_size), one, atol=1e-5)


def test_the_order_of_windows_does_not_change_the_result():
    """The volume turned upside down is taken in the opposite order."""
    condition = volume(1, 20, 12, 12)
    forwards = predict_volume(lambda b: b.roll(1, 3), condition, (8, 8, 8))
    backwards = predict_volume(lambda b: b.roll(1, 3), np.ascontiguousarray(condition[:, ::-1]), (8, 8, 8))
    np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-5)


def test_windows_without_body_are_filled_and_the_network_is_not_run():
    condition = volume(1, 32, 8, 8)
    mask = np.zeros((32, 8, 8), dtype=bool)
    mask[2, 3, 3] = True
    calls, counts = [], []

    def network(batch: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch))
        return batch

    prediction = predict_volume(
        network, condition, (8, 8, 8), step_size=1, mask=mask, background_value=-3.0, progress=counts.append
    )
    assert sum(calls) == 1
    assert counts[-1] == WindowCount(total=4, predicted=1, skipped=3)
    np.testing.assert_allclose(prediction[:8], condition[0, :8], atol=1e-5)
    np.testing.assert_allclose(prediction[8:], -3.0, atol=1e-5)
    everything = predict_volume(network, condition, (8, 8, 8), mask=mask, background_value=-3.0, skip_empty=False)
    np.testing.assert_allclose(everything, condition[0], atol=1e-5)


def test_a_volume_smaller_than_the_window_is_continued_by_its_border_values():
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return batch

    condition = volume(1, 3, 2, 6)
    prediction = predict_volume(network, condition, (8, 4, 6))
    np.testing.assert_allclose(prediction, condition[0], atol=1e-6)
    expected = np.pad(condition, [(0, 0), (2, 3), (1, 1), (0, 0)], mode="edge")
    np.testing.assert_array_equal(seen[0][0].numpy(), expected)


def test_what_lies_beyond_the_volume_can_be_given_for_each_channel():
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return batch[:, :1]

    condition = volume(2, 3, 2, 6)
    prediction = predict_volume(network, condition, (8, 4, 6), padding=(-5.0, 7.0))
    np.testing.assert_allclose(prediction, condition[0], atol=1e-6)
    expected = np.stack([np.full((8, 4, 6), -5.0), np.full((8, 4, 6), 7.0)])
    expected[:, 2:5, 1:3] = condition
    np.testing.assert_array_equal(seen[0][0].numpy(), expected.astype(np.float32))


def test_mirroring_is_the_mean_over_all_flips():
    condition, network = volume(1, 8, 8, 8), Convolution()
    flips = [axes for n in range(4) for axes in itertools.combinations((1, 2, 3), n)]
    single = [
        np.flip(predict_volume(network, np.flip(condition, a).copy(), (8, 8, 8)), [i - 1 for i in a]) for a in flips
    ]
    mirrored = predict_volume(network, condition, (8, 8, 8), mirror_axes=(0, 1, 2))
    assert len(flips) == 8
    np.testing.assert_allclose(mirrored, np.mean(single, axis=0), atol=1e-5)
    assert np.abs(mirrored - single[0]).max() > 0.1  # the network does depend on the position


def test_sums_stay_float32_under_autocast():
    condition, seen = 1000 + volume(1, 16, 16, 16), []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(torch.nn.functional.conv3d(batch, torch.ones(1, 1, 1, 1, 1)))
        return seen[-1]

    prediction = predict_volume(network, condition, (8, 8, 8), precision="bfloat16")
    assert {output.dtype for output in seen} == {torch.bfloat16}
    # Rounded once by the network (steps of 4 here); the weighted mean of equal values adds nothing to that.
    np.testing.assert_allclose(prediction, torch.from_numpy(condition[0]).bfloat16().float(), rtol=1e-6)


def test_values_that_are_not_numbers_are_an_error():
    with pytest.raises(GdmError, match="not numbers"):
        predict_volume(lambda batch: batch * float("nan"), volume(1, 9, 9, 9), (4, 4, 4))


def test_an_output_can_be_given():
    condition, out = volume(1, 9, 9, 9), np.full((9, 9, 9), 7, dtype=np.float32)
    assert predict_volume(first_channel, condition, (4, 4, 4), out=out) is out
    np.testing.assert_allclose(out, condition[0], atol=1e-5)
    with pytest.raises(ValueError, match="float32"):
        predict_volume(first_channel, condition, (4, 4, 4), out=np.zeros((9, 9, 9)))


def test_memory_is_the_output_and_one_slab():
    condition = volume(1, 96, 64, 64)
    volume_bytes, window = condition.nbytes, (16, 16, 16)
    with LiveBytes() as memory:
        predict_volume(first_channel, condition, window)
    slab, windows = volume_bytes * 16 / 96, 4 * 16**3 * 4
    rows_of_the_condition = slab  # not copied: the storage of the array itself
    assert volume_bytes + slab + rows_of_the_condition < memory.peak
    assert memory.peak < volume_bytes + slab + rows_of_the_condition + windows


THREE = st.tuples(*(st.integers(1, 14),) * 3)
WINDOWS = st.tuples(*(st.integers(1, 9),) * 3)
STEPS = st.floats(0.05, 1.0)


@given(THREE, WINDOWS, STEPS)
def test_any_grid_covers_its_volume_in_steps_of_at_most_the_asked_length(shape, window, step_size):
    grid = plan_windows(shape, window, step_size)
    for length, size, starts in zip(shape, window, grid.starts, strict=True):
        assert min(starts) <= 0
        assert max(starts) + size >= length
        assert all(0 < after - before <= max(1, int(size * step_size)) for before, after in itertools.pairwise(starts))
    weights = np.zeros(shape)
    for corner in itertools.product(*grid.starts):
        weights[tuple(slice(max(c, 0), max(c + w, 0)) for c, w in zip(corner, window, strict=True))] += 1
    assert weights.min() >= 1


@given(THREE, WINDOWS, STEPS, st.integers(1, 4), st.booleans())
def test_the_identity_gives_any_volume_back_however_it_is_cut(shape, window, step_size, batch_size, mirrored):
    values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    axes = (0, 1, 2) if mirrored else ()
    prediction = predict_volume(
        first_channel, values, window, step_size=step_size, batch_size=batch_size, mirror_axes=axes
    )
    np.testing.assert_allclose(prediction, values[0], atol=1e-5)


@given(THREE, WINDOWS, STEPS, st.integers(0, 2**32 - 1))
def test_any_body_is_predicted_and_only_windows_without_body_are_filled(shape, window, step_size, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.05
    values = np.ones((1, *shape), np.float32)
    seen = []
    prediction = predict_volume(
        first_channel, values, window, step_size=step_size, mask=mask, background_value=-1.0, progress=seen.append
    )
    assert seen[-1].total == seen[-1].predicted + seen[-1].skipped == plan_windows(shape, window, step_size).count
    assert (prediction[mask] > -1).all()
    assert (prediction >= -1 - 1e-5).all()
    assert (prediction <= 1 + 1e-5).all()
    assert mask.any() or np.allclose(prediction, -1, rtol=0, atol=1e-6)
