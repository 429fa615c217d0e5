"""A share of the cases of a command, for several processes or machines that do one work: the rule that cuts it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gdmunet.errors import GdmError

T = TypeVar("T")


@dataclass(frozen=True)
class PartOptions:
    """Share of the cases: every `num_parts`-th one from `part_id` on.

    Raises
    ------
    GdmError
        There is no such part.
    """

    num_parts: int = 1
    part_id: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.part_id < self.num_parts:
            raise GdmError(
                "there is no such part",
                found=f"part {self.part_id} of {self.num_parts}",
                expected="0 to num_parts - 1",
                remedy="correct -part_id or -num_parts",
            )

    @property
    def is_whole(self) -> bool:
        """Whether the part is all there is."""
        return self.num_parts == 1

    def part_of(self, cases: Sequence[T]) -> list[T]:
        """The cases of this part, in their order."""
        return list(cases[self.part_id :: self.num_parts])

    def holders(self, cases: Sequence[T], lacking: Collection[T]) -> tuple[int, ...]:
        """The parts of `cases` that hold those which are lacking."""
        return tuple(sorted({place % self.num_parts for place, case in enumerate(cases) if case in lacking}))

    def named(self, file: Path) -> Path:
        """The name of the part's own copy of a file."""
        return file if self.is_whole else file.with_stem(f"{file.stem}_{self.part_id}_of_{self.num_parts}")


WHOLE = PartOptions()


@dataclass(frozen=True)
class OpenParts:
    """What a part gives while others are not done: the parts that are missing, and the cases that they hold."""

    parts: tuple[int, ...]
    cases: tuple[str, ...]

    @classmethod
    def of(cls, part: PartOptions, cases: Sequence[str], lacking: Collection[str]) -> OpenParts:
        """The parts that hold the lacking cases."""
        return cls(part.holders(cases, lacking), tuple(case for case in cases if case in lacking))
