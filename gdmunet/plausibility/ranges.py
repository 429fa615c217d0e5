"""Ranges of the training cases, and what lies outside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.numbers import CASE_NUMBERS, Number, numbers_of
from gdmunet.plausibility.range_spec import Ranges, RangeSpec
from gdmunet.quantities import counted

# Cases from which on their range is taken as it is; fewer cases say less about the next one.
_MANY = 10


def ranges_over(values: Iterable[Mapping[str, float]]) -> Ranges:
    """Lowest and highest value of each number over the cases."""
    found: dict[str, list[float]] = {}
    for one in values:
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name: (min(some), max(some)) for name, some in found.items()}


def outside_case(values: Mapping[str, float], spec: RangeSpec) -> list[Finding]:
    """The numbers of a whole case that lie outside those of the training cases."""
    return _outside(values, spec.case, CASE_NUMBERS, "the case", spec.count)


def outside_volume(values: Mapping[str, float], spec: RangeSpec, channel: int, modality: str) -> list[Finding]:
    """The numbers of a condition channel that lie outside those of the training cases."""
    if channel >= len(spec.channels):
        return []
    return _outside(values, spec.channels[channel], numbers_of(modality), f"channel {channel} ({modality})", spec.count)


def _outside(
    values: Mapping[str, float], ranges: Ranges, numbers: Mapping[str, Number], what: str, count: int
) -> list[Finding]:
    outside = [
        (number, values[name], ranges[name])
        for name, number in numbers.items()
        if name in values and name in ranges and not _inside(number, values[name], ranges[name], count)
    ]
    if not outside:
        return []
    return [
        Finding(
            "ranges",
            wrong=False,
            problem=f"{what} lies outside the {counted(count, 'training case')}",
            found=_texts([f"{number.label} {number.text(value)}" for number, value, _ in outside]),
            expected=_texts([number.range_text(*known) for number, _, known in outside]),
        )
    ]


def _inside(number: Number, value: float, known: tuple[float, float], count: int) -> bool:
    low, high = number.place(known[0]), number.place(known[1])
    spread = (high - low) * (0.5 if count >= _MANY else 1.0)
    margin = max(number.margin, spread)
    return low - margin <= number.place(value) <= high + margin


def _texts(parts: Sequence[str]) -> str:
    return "; ".join(parts)
