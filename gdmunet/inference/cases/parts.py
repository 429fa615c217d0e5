"""A share of the cases, so that several machines predict one folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gdmunet.errors import GdmError

T = TypeVar("T")


def take_part(items: Sequence[T], num_parts: int, part_id: int) -> list[T]:
    """Every `num_parts`-th item from number `part_id` on.

    Raises
    ------
    GdmError
        There is no such part.
    """
    if not 0 <= part_id < num_parts:
        raise GdmError("there is no such part", found=f"part {part_id} of {num_parts}", expected="0 to num_parts - 1")
    return list(items[part_id::num_parts])
