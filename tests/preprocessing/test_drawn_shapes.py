"""What holds for every shape, spacing and patch: drawn by hypothesis, the same ones every time."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gdmunet.preprocessing.normalization import IntensityMap
from gdmunet.preprocessing.packed_arrays import chunk_shapes
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.resampling import resample, resample_mask, resampled_shape, thick_axis
from gdmunet.preprocessing.sizing import FEWEST_SLICES, first_patch, whole_slices
from gdmunet.preprocessing.topology import SMALLEST_EDGE, plan_topology

SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 8.0)] * 3)
VOLUME_SHAPES = st.tuples(*[st.integers(1, 400)] * 3)
SEEDS = st.integers(0, 1000)


@given(SHAPES, SHAPES, st.sampled_from([1, 3]), st.sampled_from([None, 0, 1, 2]), SEEDS)
def test_resampling_stays_in_the_range_of_its_input(shape, new_shape, order, thick, seed):
    volume = np.random.default_rng(seed).normal(0, 100, shape).astype(np.float32)
    resampled = resample(volume, new_shape, order, thick)
    assert resampled.shape == new_shape
    assert resampled.dtype == np.float32
    assert volume.min() <= resampled.min()
    assert resampled.max() <= volume.max()


@given(SHAPES, SHAPES, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), SEEDS)
def test_resampling_knows_no_axis_and_no_direction(shape, new_shape, order, flipped, seed):
    volume = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    moved = np.flip(volume.transpose(order), [axis for axis in range(3) if flipped[axis]])
    expected = np.flip(resample(volume, new_shape).transpose(order), [axis for axis in range(3) if flipped[axis]])
    found = resample(np.ascontiguousarray(moved), tuple(new_shape[axis] for axis in order))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@given(SHAPES, st.tuples(*[st.sampled_from([1, 3, 5])] * 3), SEEDS)
def test_an_enlarged_mask_is_itself_at_the_old_centres(shape, factors, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.5
    finer = resample_mask(mask, tuple(n * factor for n, factor in zip(shape, factors, strict=True)))
    centres = tuple(slice(factor // 2, None, factor) for factor in factors)
    assert finer.dtype == bool
    assert np.array_equal(finer[centres], mask)


@given(VOLUME_SHAPES, SPACINGS, SPACINGS)
def test_the_new_shape_keeps_the_extent(shape, spacing, wanted):
    new_shape = resampled_shape(shape, spacing, wanted)
    for size, old, new, count in zip(shape, spacing, wanted, new_shape, strict=True):
        assert count >= 1
        assert abs(count * new - size * old) <= new / 2 + 1e-6 or count == 1
    assert resampled_shape(shape, spacing, spacing) == shape


@given(SPACINGS, st.floats(1.0, 20.0), st.integers(0, 2))
def test_one_axis_at_most_is_thick(spacing, ratio, axis):
    others = max(value for i, value in enumerate(spacing) if i != axis)
    longer = tuple(ratio * others if i == axis else value for i, value in enumerate(spacing))
    assert thick_axis(longer) == (axis if longer[axis] > 3.0 * others else thick_axis(longer))
    assert thick_axis((spacing[0],) * 3) is None


@given(SPACINGS, st.tuples(*[st.integers(1, 300)] * 3), st.sampled_from([None, 1, 3]))
def test_a_topology_divides_the_patch_that_it_pads(spacing, patch, limit):
    topology = plan_topology(spacing, patch, limit)
    for size, wanted, divisor, count in zip(
        topology.patch_size, patch, topology.divisors, topology.poolings, strict=True
    ):
        assert size % divisor == 0
        assert 0 <= size - wanted < divisor
        assert count == 0 or size // divisor >= SMALLEST_EDGE
    assert topology.divisors == tuple(np.prod(topology.strides, axis=0))
    assert len(topology.strides) == len(topology.kernel_sizes) == topology.stages
    assert limit is None or topology.stages <= limit + 1
    again = plan_topology(spacing, topology.patch_size, limit)
    assert again.patch_size == topology.patch_size or again.stages > topology.stages


@given(SPACINGS, VOLUME_SHAPES, st.sampled_from(sorted(PRESETS)))
def test_a_first_patch_can_be_pooled_and_exceeds_small_volumes_alone(spacing, shape, preset):
    patch = first_patch(spacing, shape, PRESETS[preset])
    assert plan_topology(spacing, patch).stages > 1
    assert all(n <= max(size, 3 * SMALLEST_EDGE) for n, size in zip(patch, shape, strict=True))


@given(VOLUME_SHAPES, st.integers(0, 2), st.integers(8, 128))
def test_whole_slices_come_before_many(shape, axis, edge):
    patch = tuple(min(edge, size) for size in shape)
    kept = whole_slices(patch, shape, axis)
    assert all(1 <= n <= max(size, 2 * SMALLEST_EDGE) for n, size in zip(kept, shape, strict=True))
    in_slice = [i for i in range(3) if i != axis]
    if kept[axis] > max(FEWEST_SLICES, 2 * SMALLEST_EDGE):
        assert all(kept[i] >= math.floor(0.99 * shape[i]) for i in in_slice), "slices are cut although some could go"


@given(st.integers(1, 4), VOLUME_SHAPES, st.tuples(*[st.integers(1, 256)] * 3), st.sampled_from([1, 4]))
def test_chunks_lie_in_the_volume_and_blocks_in_the_chunks(channels, shape, window, item_bytes):
    chunk, block = chunk_shapes((channels, *shape), window, item_bytes)
    assert chunk[0] == channels
    assert block[0] == 1
    for size, edge, part in zip(shape, chunk[1:], block[1:], strict=True):
        assert 1 <= part <= edge <= size
    assert math.prod(chunk) * item_bytes <= 4 << 20 or max(chunk[1:]) == 1


@given(st.floats(-2000, 0), st.floats(1, 4000), st.floats(-500, 500), st.floats(0.1, 1000), SEEDS)
def test_every_intensity_map_inverts_inside_its_range(low, width, offset, scale, seed):
    intensity = IntensityMap(low, low + width, offset, scale)
    raw = np.random.default_rng(seed).uniform(low - width, low + 2 * width, 64).astype(np.float32)
    back = intensity.invert(intensity.apply(raw))
    np.testing.assert_allclose(back, np.clip(raw, low, low + width), atol=1e-3)
