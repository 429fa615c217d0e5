"""Frechet distance, MMD and fine detail: closed forms, properties, and that blur is seen."""

import numpy as np
import pytest
from scipy import ndimage

from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.mini import build_tiny
from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions import distances
from gdmunet.evaluation.distributions.distances import (
    DistributionDistance,
    body_features,
    distribution_distance,
    frechet_distance,
    mean_distances,
    pooled_distances,
    squared_mmd,
)
from gdmunet.metrics import detail_ratio
from gdmunet.plans import NormalizationSpec

RNG = np.random.default_rng(0)


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    """Diagonal covariances: sum of (m1 - m2)^2 + (s1 - s2)^2."""
    a = RNG.normal(size=(200_000, 3)) * [1.0, 2.0, 0.5] + [1, 0, 0]
    b = RNG.normal(size=(200_000, 3)) * [2.0, 2.0, 1.0]
    expected = (1 + 1 + 0.25) / (4 + 4 + 1)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=0.02)


def test_frechet_distance_of_equal_sets_is_zero_and_no_unit_changes_it():
    a, b = RNG.normal(size=(500, 6)), RNG.normal(size=(500, 6)) + 0.3
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(1000 * a, 1000 * b) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_mmd_is_near_zero_for_one_distribution_and_grows_with_the_shift():
    b = RNG.normal(size=(1500, 4))
    distances = [squared_mmd(RNG.normal(size=(1500, 4)) + shift, b) for shift in (0.0, 0.3, 1.0)]
    assert abs(distances[0]) < 2e-3
    assert 5e-3 < distances[1] < distances[2]


def test_mmd_is_the_slow_loop():
    a, b = RNG.normal(size=(7, 2)), RNG.normal(size=(9, 2)) + 0.5
    median = np.median([np.linalg.norm(x - y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])

    def k(x, y):
        return np.mean([np.exp(-0.5 * (np.linalg.norm(x - y) / (median * w)) ** 2) for w in (0.5, 1, 2)])

    expected = (
        np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
        + np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
        - 2 * np.mean([k(x, y) for x in a for y in b])
    )
    # torch takes the lower of two middle values, hence the tolerance
    assert squared_mmd(a, b) == pytest.approx(expected, rel=0.05)


def test_partners_at_one_place_do_not_make_a_distance_look_small():
    # The same places of the same patients: with partners counted, a perfect copy would be below zero.
    real = RNG.normal(size=(60, 4))
    assert squared_mmd(real, real) == pytest.approx(0, abs=1e-12)
    near = [squared_mmd(x + RNG.normal(size=x.shape) * 0.01, x) for x in RNG.normal(size=(50, 60, 4))]
    assert abs(np.mean(near)) < 1e-4


def test_levels_with_too_few_places_for_a_covariance_are_not_averaged():
    fine, deep = DistributionDistance(0.1, 0.01, 400, 16), DistributionDistance(0.9, 0.05, 54, 128)
    assert fine.sampled
    assert not deep.sampled
    assert mean_distances({"fine": fine, "deep": deep}) == (0.1, 0.01)
    assert mean_distances({"deep": deep}) == (0.9, 0.05)


def test_too_few_features_are_an_error():
    with pytest.raises(GdmError, match="too few features"):
        distribution_distance(RNG.normal(size=(1, 3)), RNG.normal(size=(5, 3)))


@pytest.fixture
def encoder():
    return build_tiny(None, VolumeUnits(NormalizationSpec("affine", (-1024, 3071), 0.0, 1000.0), -1000.0, "CT"), 3)


def textured(seed: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(32, 32, 32)), 0.7).astype(np.float32)


def test_blur_is_farther_from_real_texture_than_other_real_texture(encoder):
    mask = np.ones((32, 32, 32), dtype=bool)
    real, other = textured(1), textured(2)
    blurred = ndimage.gaussian_filter(real, 1.5)
    features = {name: body_features(encoder, v, mask) for name, v in (("r", real), ("o", other), ("b", blurred))}
    first = next(iter(features["r"]))
    near = pooled_distances([(features["o"], features["r"])])[first]
    far = pooled_distances([(features["b"], features["r"])])[first]
    assert far.frechet > 3 * near.frechet
    assert far.mmd > 3 * near.mmd


def test_what_lies_outside_the_body_does_not_count(encoder):
    mask = np.zeros((32, 32, 32), dtype=bool)
    mask[8:24, 8:24, 8:24] = True
    volume = textured(3)
    changed = np.where(mask, volume, 5.0)
    one, two = body_features(encoder, volume, mask), body_features(encoder, changed, mask)
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_features_are_those_of_all_places_drawn_afterwards(encoder, monkeypatch):
    """Several blocks, more places than are kept: the same rows as from the whole set of features."""
    volume, mask = np.pad(textured(5), 4), np.zeros((40, 40, 40), dtype=bool)
    mask[3:36, 5:38, 4:33] = True
    everything = body_features(encoder, volume, mask, window=20)
    monkeypatch.setattr(distances, "_PLACES", 50)
    for name, values in body_features(encoder, volume, mask, window=20).items():
        assert np.array_equal(values, everything[name][: len(values)])
        assert len(values) == min(50, len(everything[name]))


def test_fine_detail_is_one_for_the_same_volume_and_falls_with_blur():
    mask, real = np.ones((24, 24, 24), dtype=bool), textured(4)[:24, :24, :24]
    assert detail_ratio(real, real, mask) == pytest.approx(1)
    assert detail_ratio(real, 2 * real, mask) == pytest.approx(4)
    assert detail_ratio(real, ndimage.gaussian_filter(real, 1), mask) < 0.5
    assert detail_ratio(real, real, np.zeros_like(mask)) is None
    mask[12:] = False
    assert detail_ratio(real, np.where(mask, real, np.nan), mask) == pytest.approx(1)
