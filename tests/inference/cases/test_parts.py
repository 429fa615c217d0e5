import pytest

from gdmunet.errors import GdmError
from gdmunet.inference.cases.parts import take_part


def test_parts_share_the_cases_without_rest():
    items = list("abcdefg")
    parts = [take_part(items, 3, number) for number in range(3)]
    assert parts == [list("adg"), list("be"), list("cf")]


@pytest.mark.parametrize("part", [-1, 3])
def test_an_unknown_part_is_refused(part):
    with pytest.raises(GdmError, match=f"part {part} of 3"):
        take_part("abc", 3, part)
