import itertools

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.references import (
    ReferenceCase,
    fit_intensity_mapping,
    fit_mean_target,
    isotonic_medians,
    score_references,
)

SHAPE = (12, 14, 16)


def make_case(name: str, seed: int, sign: float = 1.0, noise: float = 0.0) -> ReferenceCase:
    """The target is a bent monotone function of the condition inside the mask, garbage outside."""
    random = np.random.RandomState(seed)
    condition = random.uniform(0, 100, SHAPE)
    target = sign * (condition**2 / 10) + random.normal(0, 1, SHAPE) * noise
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    return ReferenceCase(name, condition, np.where(mask, target, 1e5), mask)


def fit(*cases: ReferenceCase, bins: int = 256):
    return fit_intensity_mapping([c.condition for c in cases], [c.target for c in cases], [c.mask for c in cases], bins)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_monotone_relation_is_found_whether_it_rises_or_falls(sign):
    mapping = fit(make_case("a", 0, sign), make_case("b", 1, sign))
    unseen = make_case("c", 2, sign)
    error = np.abs(mapping.apply(unseen.condition) - unseen.target)[unseen.mask]
    assert mapping.rising == (sign > 0)
    assert error.mean() < 3  # of values up to 1000
    assert (np.diff(mapping.outputs) * sign >= 0).all()
    assert (np.diff(mapping.inputs) > 0).all()


def test_the_mapping_holds_its_outermost_values_and_keeps_the_shape():
    mapping = fit(make_case("a", 0))
    far = mapping.apply(np.array([[-1e6, 1e6]]))
    assert far.dtype == np.float32
    np.testing.assert_allclose(far, [[mapping.outputs[0], mapping.outputs[-1]]], rtol=1e-6)


def test_values_outside_the_mask_do_not_matter():
    case = make_case("a", 0, noise=20)
    other = ReferenceCase(
        "a", np.where(case.mask, case.condition, -1e9), np.where(case.mask, case.target, 0), case.mask
    )
    np.testing.assert_array_equal(fit(case).outputs, fit(other).outputs)


def test_a_condition_of_few_values_works():
    condition = np.repeat([0.0, 0.0, 0.0, 5.0], 64).reshape(4, 8, 8)
    target = np.where(condition > 0, 300.0, -100.0)
    mapping = fit_intensity_mapping([condition], [target], [None])
    np.testing.assert_array_equal(mapping.apply(condition), target)
    constant = fit_intensity_mapping([np.zeros((2, 2, 2))], [np.full((2, 2, 2), 7.0)], [None])
    assert (constant.apply(np.ones(3)) == 7).all()


def test_isotonic_medians_are_the_best_of_all_monotone_values():
    random = np.random.RandomState(3)
    for _ in range(20):
        samples = [random.randint(0, 6, random.randint(1, 4)).astype(float) for _ in range(4)]
        found = isotonic_medians(samples)
        assert (np.diff(found) >= 0).all()
        # Some optimum takes its values from the data, so trying all of them is exhaustive.
        every = itertools.combinations_with_replacement(range(6), 4)
        best = min(_error(samples, values) for values in every)
        assert _error(samples, found) == best


def test_isotonic_medians_beat_least_squares_in_absolute_error():
    random = np.random.RandomState(4)
    samples = [np.array([value]) for value in np.arange(40) + random.standard_cauchy(40) * 5]
    squares = isotonic_regression(np.concatenate(samples)).x
    assert _error(samples, isotonic_medians(samples)) < _error(samples, squares)


def test_sorted_medians_are_left_alone():
    samples = [np.array([1.0, 2.0, 9.0]), np.array([3.0]), np.array([3.0, 4.0, 5.0])]
    np.testing.assert_array_equal(isotonic_medians(samples), [2, 3, 4])


def test_the_mean_target_weighs_voxels_not_cases():
    targets = [np.full((2, 2, 2), 10.0), np.full((4, 4, 4), 20.0)]
    masks = [None, np.arange(64).reshape(4, 4, 4) < 8]
    assert fit_mean_target(targets, masks) == 15
    with pytest.raises(GdmError, match="needs voxels"):
        fit_mean_target([], [])


def test_references_are_scored_by_case_and_in_the_mean():
    training = [make_case("a", 0, noise=30), make_case("b", 1, noise=30)]
    test = [make_case("c", 2, noise=30), make_case("d", 3, noise=30)]
    scores = score_references(training, iter(test), same_modality=True)
    for case in test:
        difference = np.abs(case.condition - case.target)[case.mask].mean()
        assert scores.cases[case.identifier].condition == pytest.approx(difference)
        offset = np.abs(case.target[case.mask] - scores.mean_target).mean()
        assert scores.cases[case.identifier].mean_target == pytest.approx(offset, rel=1e-5)
    assert scores.mean.mapping == np.mean([case.mapping for case in scores.cases.values()])
    assert scores.mean.mapping < scores.mean.mean_target
    assert scores.mean.mapping == pytest.approx(30 * np.sqrt(2 / np.pi), rel=0.05)  # only the noise is left


def test_a_condition_of_another_modality_is_no_prediction():
    scores = score_references([make_case("a", 0)], [make_case("b", 1)], same_modality=False)
    assert scores.mean.condition is None
    assert scores.cases["b"].condition is None


def test_nothing_to_fit_or_score_is_an_error():
    with pytest.raises(GdmError, match="at least one training case"):
        score_references([], [make_case("a", 0)], same_modality=False)
    with pytest.raises(GdmError, match="at least one test case"):
        score_references([make_case("a", 0)], [], same_modality=False)
    with pytest.raises(GdmError, match="no voxel"):
        fit_intensity_mapping([np.zeros(SHAPE)], [np.zeros(SHAPE)], [np.zeros(SHAPE, bool)])


def _error(samples, values):
    return sum(np.abs(sample - value).sum() for sample, value in zip(samples, values, strict=True))
