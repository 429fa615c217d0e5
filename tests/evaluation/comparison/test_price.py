"""The price ratio: constant on the optimal path, and undefined where nothing was gained; its interval over cases."""

import numpy as np
import pytest

from gdmunet.evaluation.comparison.paired import TrainerRow, compare, load_comparison, save_comparison
from gdmunet.evaluation.comparison.price import Price, price_of_distance, price_ratio
from gdmunet.evaluation.distributions.judgement import Judgement, Resampled
from gdmunet.evaluation.distributions.resampling import BootstrapSpec
from gdmunet.evaluation.scores.summary import EvaluationSpec
from gdmunet.metrics import HU_2025

CASES = ("case_0", "case_1", "case_2")
DRAWS = BootstrapSpec(resamples=200)
SETTINGS = EvaluationSpec("2025", HU_2025, True, "none", prediction_folder="somewhere")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_it_is_constant_on_the_path_of_the_smallest_error(share):
    """D(P) = D* + c (P* - P)^2 with D the squared error and P the root of the distance: any point costs c."""
    error = (1 + 0.4 * share**2) ** 0.5
    assert price_of_distance(error, (1 - share) ** 2) == pytest.approx(0.4)


def test_known_rows_of_the_documentation():
    # An unsharp mask: +0.7 % of error for -36 % of distance.
    assert price_of_distance(1.007, 0.64) == pytest.approx((1.007**2 - 1) / 0.04)


def test_no_gain_has_no_price_and_a_gift_is_below_zero():
    assert price_of_distance(1.01, 1.0) is None
    assert price_of_distance(1.01, 1.2) is None
    assert price_of_distance(0.99, 0.5) < 0


def row(name, errors, frechet, cases=CASES):
    """A trainer whose distance of a resample is the mean of the cases' own."""
    own = np.asarray(frechet)
    resampled = Resampled(cases, tuple(own[DRAWS.draws(len(own))].mean(1)), DRAWS)
    judgement = Judgement("mini", "0", float(own.mean()), 0.0, resampled=resampled)
    scores = {case: {"mae": float(error)} for case, error in zip(cases, errors, strict=True)}
    return TrainerRow(name, scores, (judgement,))


def price(first, second, tmp_path):
    """By way of the file."""
    save_comparison(compare([first, second], SETTINGS), tmp_path / "comparison.json")
    comparison = load_comparison(tmp_path / "comparison.json")
    assert price_ratio(comparison, comparison.rows[0], "mini") == Price()
    return price_ratio(comparison, comparison.rows[1], "mini")


def test_a_price_that_all_cases_agree_on_has_no_width(tmp_path):
    errors, frechet = np.array([100.0, 50.0, 80.0]), np.array([0.4, 0.2, 0.3])
    found = price(row("a", errors, frechet), row("b", 1.01 * errors, 0.49 * frechet), tmp_path)
    expected = (1.01**2 - 1) / 0.3**2
    assert found.ratio == pytest.approx(expected)
    assert found.interval == pytest.approx((expected, expected))
    assert found.text == "0.22 [0.22, 0.22]"


def test_the_interval_of_a_price_holds_what_resamples_say(tmp_path):
    first = row("a", [100.0, 100.0, 100.0], [0.4, 0.4, 0.4])
    low, high = price(first, row("b", [100.5, 101.0, 102.0], [0.1, 0.2, 0.2]), tmp_path).interval
    ends = [price_of_distance(1 + error, share) for error, share in ((0.005, 0.25), (0.02, 0.5))]
    assert low == pytest.approx(ends[0], abs=0.02)
    assert high == pytest.approx(ends[1], abs=0.08)


def test_resamples_without_a_gain_have_no_upper_end(tmp_path):
    first = row("a", [100.0, 100.0, 100.0], [0.4, 0.4, 0.4])
    found = price(first, row("b", [101.0, 101.0, 101.0], [0.1, 0.2, 0.8]), tmp_path)
    assert found.interval[1] == np.inf
    assert found.text.endswith(", inf]")


def test_resamples_of_other_cases_give_no_interval(tmp_path):
    first = row("a", [100.0, 100.0, 100.0], [0.4, 0.4, 0.4])
    others = row("b", [101.0, 101.0], [0.1, 0.2], CASES[:2])
    found = price(first, others, tmp_path)
    assert found.ratio is not None
    assert found.interval is None
