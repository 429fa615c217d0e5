"""The rule that cuts cases into parts: every case in one part, whatever their number."""

from pathlib import Path

import pytest

from gdmunet.errors import GdmError
from gdmunet.parts import WHOLE, OpenParts, PartOptions


@pytest.mark.parametrize("number", [1, 2, 3, 7, 9])
def test_every_case_is_in_one_part_and_parts_know_which(number):
    cases = list("abcdefg")
    parts = [PartOptions(number, part).part_of(cases) for part in range(number)]
    assert sorted(case for held in parts for case in held) == cases
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for part, held in enumerate(parts):
        for case in held:
            assert OpenParts.of(PartOptions(number), cases, {case}) == OpenParts((part,), (case,))


@pytest.mark.parametrize(("number", "part"), [(3, 3), (3, -1), (0, 0)])
def test_a_part_that_is_not_there_is_refused(number, part):
    with pytest.raises(GdmError, match="there is no such part"):
        PartOptions(number, part)


def test_a_part_has_a_file_of_its_own_beside_that_of_the_whole():
    assert WHOLE.named(Path("a/.running.json")) == Path("a/.running.json")
    assert PartOptions(3, 1).named(Path("a/.running.json")) == Path("a/.running_1_of_3.json")
