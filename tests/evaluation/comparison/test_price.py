"""The price ratio: constant on the optimal path, and undefined where nothing was gained."""

import pytest

from gdmunet.evaluation.comparison.price import price_of_distance


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
