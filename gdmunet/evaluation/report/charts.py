"""Charts: distributions of scores, and curves over epochs, as places in pixels that ``parts.html`` draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Classes s0 to s7 of report.css; a ninth series has the first one's colour again.
SERIES = 8
_WIDTH = 460
_ROW = 34
_LINES_HEIGHT = 230
_LARGEST_WITH_POINTS = 60
_LONGEST_LABEL = 20


@dataclass(frozen=True)
class Curve:
    """One line of a chart; None where there is no value at that x."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Tick:
    """Place of a tick along its axis, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """One point and the text that the pointer shows."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Box:
    """Quantiles of a row at 0, 25, 50, 75 and 100 %, in pixels; `width` is the box's."""

    low: float
    quarter: float
    median: float
    high: float
    width: float


@dataclass(frozen=True)
class BoxRow:
    """One row of box plots; `shown` is the label as far as there is room, `box` None where the row has no value."""

    label: str
    shown: str
    middle: float
    series: int
    box: Box | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class BoxChart:
    """Box plots on one axis; `label_x` None: one row, which needs no label."""

    title: str
    width: int
    height: float
    label_x: float | None
    ticks: tuple[Tick, ...]
    rows: tuple[BoxRow, ...]


@dataclass(frozen=True)
class Line:
    """One curve: its places as SVG writes them, and its points if they are few."""

    name: str
    series: int
    path: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class LineChart:
    """Curves over one horizontal axis from `left` to `right`; plots lie between `top` and `bottom`."""

    title: str
    x_name: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    ticks: tuple[Tick, ...]
    across: tuple[Tick, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def distributions(title: str, rows: Mapping[str, Mapping[str, float]]) -> BoxChart | None:
    """Box plots with every case as a point, one row for each label, on one axis; None where there is no value.

    The box reaches from the 25 % to the 75 % quantile with the median as a line; the thin line reaches from the
    smallest to the largest value.

    Parameters
    ----------
    rows
        Label to case to value.
    """
    values = [value for row in rows.values() for value in row.values()]
    if not values:
        return None
    label_width = min(150, 14 + 7 * max(len(label) for label in rows)) if len(rows) > 1 else 12
    ticks = nice_ticks(min(values), max(values))
    axis = _Axis(ticks[0], ticks[-1], label_width, _WIDTH - 16)
    return BoxChart(
        title=title,
        width=_WIDTH,
        height=8 + _ROW * len(rows) + 26,
        label_x=label_width - 8 if len(rows) > 1 else None,
        ticks=tuple(Tick(axis.at(tick), _tick_text(tick, ticks)) for tick in ticks),
        rows=tuple(_box_row(axis, number, label, row) for number, (label, row) in enumerate(rows.items())),
    )


def curves(title: str, x: Sequence[float], lines: Sequence[Curve], x_name: str = "epoch") -> LineChart | None:
    """Lines over `x`, without the values of None; None where there is no value at all."""
    known = [value for line in lines for value in line.values if value is not None]
    if not known:
        return None
    left, right, top, bottom = 62, _WIDTH - 16, 12, _LINES_HEIGHT - 40
    ticks, across = nice_ticks(min(known), max(known)), nice_ticks(min(x), max(x))
    vertical = _Axis(ticks[0], ticks[-1], bottom, top)
    # The horizontal axis ends with the data: room behind the last epoch would look like one that is missing.
    horizontal = _Axis(min(x), max(max(x), min(x) + 1), left, right)
    return LineChart(
        title=title,
        x_name=x_name,
        width=_WIDTH,
        height=_LINES_HEIGHT,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        ticks=tuple(Tick(vertical.at(tick), _tick_text(tick, ticks)) for tick in ticks),
        across=tuple(
            Tick(horizontal.at(tick), _tick_text(tick, across))
            for tick in across
            if min(x) <= tick <= max(x) and float(tick).is_integer()
        ),
        lines=tuple(_line(horizontal, vertical, number, x, line, x_name) for number, line in enumerate(lines)),
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose `low` and `high`, steps of 1, 2 or 5 times a power of ten."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _box_row(axis: _Axis, number: int, label: str, row: Mapping[str, float]) -> BoxRow:
    middle = 8 + _ROW * (number + 0.5)
    # Points are spread a little up and down, always the same way, so that equal values can be told apart.
    shift = np.random.default_rng(0).uniform(-7, 7, len(row))
    box = None
    if row:
        quantiles = np.quantile(np.array(list(row.values())), (0, 0.25, 0.5, 0.75, 1))
        low, quarter, median, three_quarters, high = (axis.at(float(value)) for value in quantiles)
        box = Box(low, quarter, median, high, max(round(three_quarters - quarter, 1), 1))
    return BoxRow(
        label=label,
        shown=label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…",
        middle=middle,
        series=number % SERIES,
        box=box,
        points=tuple(
            Point(axis.at(value), round(middle + float(shift[k]), 1), f"{name}: {value:.5g}")
            for k, (name, value) in enumerate(row.items())
        ),
    )


def _line(horizontal: _Axis, vertical: _Axis, number: int, x: Sequence[float], line: Curve, x_name: str) -> Line:
    points = [
        Point(horizontal.at(at), vertical.at(value), f"{line.name}, {x_name} {at:g}: {value:.5g}")
        for at, value in zip(x, line.values, strict=True)
        if value is not None
    ]
    path = " ".join(f"{point.x},{point.y}" for point in points)
    return Line(line.name, number % SERIES, path, tuple(points) if len(points) <= _LARGEST_WITH_POINTS else ())


def _tick_text(value: float, ticks: Sequence[float]) -> str:
    """As many decimals as the step needs; powers of ten for very small or large numbers."""
    step = ticks[1] - ticks[0]
    if max(abs(ticks[0]), abs(ticks[-1])) >= 1e6 or step < 1e-4:
        return "0" if abs(value) < step / 2 else f"{value:.3g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{decimals}f}"
