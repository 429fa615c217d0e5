import numpy as np
import pytest
import torch
from scipy import ndimage

from gdmunet.training.patches import spline_rows
from gdmunet.training.patches.spline import (
    cubic_reader,
    read_by_linear_reads,
    read_nearest,
    spline_coefficients,
)

SHAPES = [(1, 20, 13, 9), (2, 11, 30), (1, 2, 5, 40), (3, 1, 16, 12)]


@pytest.mark.parametrize("shape", SHAPES)
def test_coefficients_are_those_of_scipy(shape):
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mine = spline_coefficients(values).numpy()
    expected = []
    for channel in values.numpy():
        for axis in range(channel.ndim):
            if channel.shape[axis] > 1:
                channel = ndimage.spline_filter1d(channel, 3, axis, mode="mirror")
        expected.append(channel)
    np.testing.assert_allclose(mine, expected, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-5)])
@pytest.mark.parametrize("shape", [(2, 20, 13, 9), (1, 15, 10, 12), (2, 11, 30)])
def test_values_between_voxels_are_those_of_scipy(shape, dtype, tolerance):
    """float32: 5e-5 of values with standard deviation 1, or 0.025 HU of a target with a scale of 500 HU."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=shape)
    positions = [rng.uniform(1, size - 2.001, (7,) * len(shape[1:])) for size in shape[1:]]
    expected = [ndimage.map_coordinates(channel, positions, order=3, mode="mirror") for channel in values]
    coefficients = spline_coefficients(torch.from_numpy(values).to(dtype))
    places = [torch.from_numpy(place).to(dtype) for place in positions]
    for mine in (cubic_reader(coefficients)(places), read_by_linear_reads(coefficients, places)):
        np.testing.assert_allclose(mine.numpy(), expected, atol=tolerance)


def test_planes_are_read_in_turns(monkeypatch):
    """More values than are summed at once."""
    monkeypatch.setattr(spline_rows, "_AT_ONCE", 50)
    values = torch.randn(2, 12, 12, 12)
    axes = [torch.linspace(1.5, 8.5, 7).reshape([-1 if axis == k else 1 for axis in range(3)]) for k in range(3)]
    whole = [axes[0] + 0.05 * axes[1], axes[1], axes[2] - 0.01 * axes[0]]
    np.testing.assert_allclose(cubic_reader(values)(whole), read_by_linear_reads(values, whole), atol=1e-4)


def test_positions_may_depend_on_one_axis_alone():
    values = torch.randn(1, 12, 12, 12)
    axes = [torch.linspace(2, 8, 5).reshape([-1 if axis == k else 1 for axis in range(3)]) for k in range(3)]
    whole = [place.expand(5, 5, 5).contiguous() for place in axes]
    assert torch.equal(cubic_reader(values)(axes), cubic_reader(values)(whole))
    assert read_nearest(values, axes).shape == (1, 5, 5, 5)


def test_the_nearest_voxel_is_read():
    values = torch.arange(60.0).reshape(1, 3, 4, 5)
    place = [torch.tensor(number).reshape(1, 1, 1) for number in (1.4, 2.6, 0.2)]
    assert read_nearest(values, place).item() == values[0, 1, 3, 0]


def test_on_voxels_the_values_come_back():
    values = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    places = torch.meshgrid(*[torch.arange(1.0, 14.0)] * 3, indexing="ij")
    np.testing.assert_allclose(
        cubic_reader(spline_coefficients(values))(places).numpy(), values[:, 1:14, 1:14, 1:14].numpy(), atol=2e-5
    )


def test_cubic_reads_keep_the_fine_detail_that_linear_ones_lose():
    """A texture of 4 voxels per period, read half-way between voxels: linear keeps 71 % of it, cubic over 93 %."""
    wave = torch.sin(torch.arange(64.0) * torch.pi / 2)
    volume = (wave[:, None, None] + wave[None, :, None] + wave[None, None, :])[None]
    places = torch.meshgrid(*[torch.arange(8.0, 55.0) + 0.5] * 3, indexing="ij")
    exact = sum(torch.sin(place * torch.pi / 2) for place in places)
    cubic = cubic_reader(spline_coefficients(volume))(places)[0]
    linear = torch.from_numpy(ndimage.map_coordinates(volume[0].numpy(), [p.numpy() for p in places], order=1))
    kept = [(one * exact).sum().item() / (exact * exact).sum().item() for one in (cubic, linear)]
    assert kept[0] > 0.93
    assert kept[1] == pytest.approx(0.7071, abs=0.01)
