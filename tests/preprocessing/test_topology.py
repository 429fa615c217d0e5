"""The pooling rules: known answers, and what must hold for every patch and spacing."""

import math

import numpy as np
import pytest

from gdmunet.preprocessing.topology import fullres_target_spacing, plan_topology


def test_isotropic_patch_pools_all_axes_together():
    topology = plan_topology((1.0, 1.0, 1.0), (128, 128, 128))
    assert topology.strides == ((1, 1, 1),) + ((2, 2, 2),) * 5
    assert topology.kernel_sizes == ((3, 3, 3),) * 6
    assert topology.poolings == (5, 5, 5)
    assert topology.patch_size == (128, 128, 128)


def test_thick_slices_are_pooled_later_and_convolved_in_plane_first():
    topology = plan_topology((5.0, 1.0, 1.0), (16, 256, 256))
    assert topology.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert topology.kernel_sizes[0] == (1, 3, 3)
    assert topology.kernel_sizes[1] == (1, 3, 3)
    assert topology.kernel_sizes[2] == (3, 3, 3)


def test_patch_is_padded_up():
    assert plan_topology((1.0, 1.0, 1.0), (33, 64, 64)).patch_size == (40, 64, 64)


def test_a_lone_axis_stops_early():
    assert plan_topology((1.0, 1.0, 1.0), (3, 3, 11)).stages == 1
    assert plan_topology((1.0, 1.0, 1.0), (3, 3, 12)).poolings == (0, 0, 1)


def test_poolings_can_be_limited():
    topology = plan_topology((1.0, 1.0), (512, 512), max_poolings=3)
    assert topology.stages == 4
    assert topology.poolings == (3, 3)


@pytest.mark.parametrize("axes", [2, 3])
def test_every_topology_is_consistent(axes):
    rng = np.random.default_rng(axes)
    for _ in range(300):
        spacing = np.exp(rng.uniform(math.log(0.1), math.log(10), axes))
        patch = rng.integers(1, 400, axes)
        topology = plan_topology(spacing, patch)
        assert len(topology.strides) == len(topology.kernel_sizes) == topology.stages
        assert topology.strides[0] == (1,) * axes
        assert topology.kernel_sizes[-1] == (3,) * axes
        products = np.prod(topology.strides, axis=0)
        assert tuple(products) == topology.divisors
        padded = np.asarray(topology.patch_size)
        assert (padded >= patch).all()
        assert (padded - patch < products).all()
        assert (padded % products == 0).all()
        assert (padded[products > 1] // products[products > 1] >= 4).all()
        # A kernel never shrinks again towards the bottleneck.
        assert (np.diff(topology.kernel_sizes, axis=0) >= 0).all()


def test_spacing_is_the_median():
    spacings = [(1, 2, 3), (2, 2, 3), (3, 2, 3.5)]
    assert fullres_target_spacing(spacings, [(100, 100, 100)] * 3) == (2.0, 2.0, 3.0)


def test_thick_slices_take_the_tenth_percentile():
    spacings = [(float(z), 1.0, 1.0) for z in range(4, 15)]
    assert fullres_target_spacing(spacings, [(20, 256, 256)] * 11) == pytest.approx((5.0, 1.0, 1.0))


def test_thick_slices_never_become_finer_than_the_plane():
    spacings = [(0.5, 1.0, 1.0)] * 2 + [(5.0, 1.0, 1.0)] * 5
    assert fullres_target_spacing(spacings, [(20, 256, 256)] * 7) == (1.0 + 1e-5, 1.0, 1.0)


def test_many_thick_slices_keep_the_median():
    spacings = [(float(z), 1.0, 1.0) for z in range(4, 15)]
    assert fullres_target_spacing(spacings, [(200, 256, 256)] * 11)[0] == 9.0
