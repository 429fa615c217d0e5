"""Topology and target spacing agree with nnU-Net v2. Needs the package `nnunetv2`."""

import math

import numpy as np
import pytest

from gdmunet.preprocessing.topology import fullres_target_spacing, plan_topology

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("axes", [2, 3])
def test_topology_agrees(axes):
    module = pytest.importorskip("nnunetv2.experiment_planning.experiment_planners.network_topology")
    rng = np.random.default_rng(axes)
    for _ in range(500):
        spacing = tuple(np.round(np.exp(rng.uniform(math.log(0.2), math.log(8), axes)), rng.integers(0, 4)) + 0.1)
        patch = tuple(int(n) for n in rng.integers(1, 320, axes))
        poolings, strides, kernels, padded, divisors = module.get_pool_and_conv_props(spacing, patch, 4, 999999)
        ours = plan_topology(spacing, patch)
        assert ours.poolings == tuple(poolings)
        assert ours.strides == strides
        assert ours.kernel_sizes == kernels
        assert ours.patch_size == tuple(int(n) for n in padded)
        assert ours.divisors == tuple(divisors)


def test_topology_agrees_on_whole_ratios():
    """Spacings exactly twice one another, where a wrong comparison sign would show."""
    module = pytest.importorskip("nnunetv2.experiment_planning.experiment_planners.network_topology")
    rng = np.random.default_rng(5)
    for _ in range(300):
        spacing = tuple(float(s) for s in 2.0 ** rng.integers(-1, 4, 3))
        patch = tuple(int(n) for n in rng.choice([4, 7, 8, 11, 12, 13, 16, 24, 64, 100, 128], 3))
        _, strides, kernels, padded, _ = module.get_pool_and_conv_props(spacing, patch, 4, 999999)
        ours = plan_topology(spacing, patch)
        assert (ours.strides, ours.kernel_sizes, ours.patch_size) == (strides, kernels, tuple(int(n) for n in padded))


def test_target_spacing_agrees():
    module = pytest.importorskip("nnunetv2.experiment_planning.experiment_planners.default_experiment_planner")
    rng = np.random.default_rng(7)
    thick = 0
    for _ in range(500):
        count = int(rng.integers(1, 12))
        spacings = rng.uniform(0.3, 2.0, (count, 3))
        sizes = rng.integers(8, 400, (count, 3))
        if rng.random() < 0.6:
            axis = rng.integers(3)
            spacings[:, axis] *= rng.uniform(1, 12, count)
            sizes[:, axis] = rng.integers(4, 60, count)
        planner = object.__new__(module.ExperimentPlanner)
        planner.overwrite_target_spacing = None
        planner.anisotropy_threshold = module.ANISO_THRESHOLD
        planner.dataset_fingerprint = {"spacings": spacings.tolist(), "shapes_after_crop": sizes.tolist()}
        expected = planner.determine_fullres_target_spacing()
        assert fullres_target_spacing(spacings, sizes) == tuple(float(s) for s in expected)
        thick += not np.array_equal(expected, np.percentile(spacings, 50, axis=0))
    assert thick > 20
