"""Few-view CT: units, geometry and error sizes."""

import numpy as np
import pytest

from gdmunet.conversion import demo_data
from gdmunet.conversion.sparse_view import hu_to_mu, mu_to_hu, sparse_view_slice, sparse_view_volume
from gdmunet.dataset import list_cases, load_descriptor
from gdmunet.imageio import Volume, read_case


def water_disc(side=48, radius=16.0):
    y, x = np.mgrid[:side, :side] - side // 2
    distance = np.hypot(y, x)
    return np.where(distance < radius, 0.0, -1000.0).astype(np.float32), distance


def test_attenuation_inverts_above_vacuum():
    hu = np.array([-1000, -500, 0, 40, 3071], np.float32)
    assert mu_to_hu(hu_to_mu(hu)) == pytest.approx(hu, abs=0.01)
    assert hu_to_mu(np.float32([-1024])) == 0
    assert hu_to_mu(np.float32([0])) == pytest.approx(0.0192)


def test_many_views_give_water_its_number_and_air_its_own():
    disc, distance = water_disc()
    found = sparse_view_slice(disc, views=360)
    assert found[distance < 12].mean() == pytest.approx(0, abs=5)
    assert found[distance > 20].mean() == pytest.approx(-1000, abs=15)


def test_fewer_views_have_larger_errors():
    slab = demo_data.read_demo_volume("abdomen").array[56]
    error = {views: np.abs(sparse_view_slice(slab, views) - slab).mean() for views in (18, 36, 180)}
    assert error[18] > 1.3 * error[36] > 1.3 * 1.5 * error[180]
    # Reference: 48.6 HU at 36 views over the whole slice, computed with the same geometry by hand.
    assert 35 < error[36] < 65


@pytest.mark.parametrize("shape", [(20, 31), (31, 20), (25, 25), (24, 31)])
def test_a_slice_of_any_shape_is_neither_shifted_nor_cropped(shape):
    slice_ = np.full(shape, -1000, np.float32)
    slice_[1:4, -5:-2] = 500
    found = sparse_view_slice(slice_, views=180)
    assert found.shape == shape
    weight = np.maximum(found + 600, 0)
    centre = [(weight.sum(axis=1 - axis) * np.arange(shape[axis])).sum() / weight.sum() for axis in (0, 1)]
    assert centre == pytest.approx([2.0, shape[1] - 4.0], abs=0.35)


def test_slices_are_independent_of_the_number_of_threads():
    volume = np.stack([water_disc(24, r)[0] for r in (4.0, 6.0, 8.0)])
    steps = []
    found = sparse_view_volume(volume, 18, threads=2, step=lambda: steps.append(1))
    assert len(steps) == 3
    assert all(np.array_equal(found[i], sparse_view_slice(volume[i], 18)) for i in range(3))


def test_the_demo_keeps_geometry_and_holds_out_the_lung(tmp_path, monkeypatch):
    whole = demo_data.read_demo_volume

    def thin(name):
        volume = whole(name)
        geometry = type(volume.geometry)((3, *volume.geometry.shape[1:]), *list(vars(volume.geometry).values())[1:])
        return Volume(volume.array[50:53], geometry)

    monkeypatch.setattr(demo_data, "read_demo_volume", thin)
    folder = demo_data.make_sparse_view_demo(tmp_path, show_progress=False)
    descriptor = load_descriptor(folder)
    training, test = list_cases(folder, descriptor), list_cases(folder, descriptor, "Ts")
    assert [case.identifier for case in training] == ["abdomen", "heart"]
    assert [case.identifier for case in test] == ["lung"]
    for case in training + test:
        volumes = read_case(case)
        assert volumes.geometry.difference(thin(case.identifier).geometry) is None
        assert np.array_equal(volumes.target, thin(case.identifier).array)
        error = np.abs(volumes.conditions[0] - volumes.target)[volumes.mask].mean()
        assert 20 < error < 250
