"""The case that stands apart is named, in small sets too; cases of a normal spread are not."""

import numpy as np
import pytest

from gdmunet.plausibility.numbers import CASE_NUMBERS, HU_NUMBERS, RELATIVE_NUMBERS
from gdmunet.plausibility.outliers import outliers

NUMBERS = CASE_NUMBERS | HU_NUMBERS | RELATIVE_NUMBERS
USUAL = {"mm": 3.0, "ml": 3000.0, "HU": 30.0, "": 0.4}


def apart(number, value: float) -> float:
    """A value well beyond the number's own smallest distance."""
    return value * number.least**3 if number.scale == "ratio" else value + 1.6 * number.least


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("count", [3, 4, 10, 40])
def test_one_case_apart_is_named_alone(name, count):
    number, usual = NUMBERS[name], USUAL[NUMBERS[name].unit]
    random = np.random.default_rng(0)
    values = {f"p{i}": usual * (1 + 0.002 * random.normal()) for i in range(count)}
    values["p1"] = apart(number, usual)
    (found,) = outliers(values, number, "the target (CT)")
    assert (found.check, found.case, found.wrong) == ("outliers", "p1", False)
    assert number.label in found.problem


@pytest.mark.parametrize("count", [3, 4, 6, 12, 50])
def test_a_normal_spread_is_rarely_named(count):
    """In about one data set of fifty."""
    random = np.random.default_rng(count)
    number = HU_NUMBERS["tissue"]
    named = sum(
        bool(outliers({f"p{i}": 400 * value for i, value in enumerate(random.normal(size=count))}, number, ""))
        for _ in range(500)
    )
    assert named <= 20


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_cases_do_not_say_which_one_is_apart(count):
    values = dict(zip("ab"[:count], (1.0, 100.0)[:count], strict=True))
    assert outliers(values, CASE_NUMBERS["spacing_z"], "") == []


def test_equal_cases_are_not_apart():
    assert outliers(dict.fromkeys("abcdef", 3.0), CASE_NUMBERS["spacing_z"], "") == []
