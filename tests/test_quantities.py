"""Counts and sizes of memory in words."""

import pytest

from gdmunet.quantities import counted, memory_size


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "case", "1 case"),
        (0, "case", "0 cases"),
        (["a", "b"], "training case", "2 training cases"),
        ({"a"}, "fold", "1 fold"),
        (2, "pass", "2 passes"),
        (3, "series", "3 series"),
    ],
)
def test_a_count_agrees_with_its_noun(number, noun, text):
    assert counted(number, noun) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 MB"),
        (1.4e6, "1.4 MB"),
        (35.4e6, "35 MB"),
        (999.4e6, "999 MB"),
        (999.6e6, "1 GB"),
        (7.518e9, "7.52 GB"),
        (41.2e9, "41.2 GB"),
    ],
)
def test_memory_below_a_gigabyte_is_said_in_megabytes(count, text):
    assert memory_size(count) == text
