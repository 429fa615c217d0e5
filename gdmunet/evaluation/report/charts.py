"""Charts as inline SVG: distributions of scores, and curves over epochs. They need no script; colours are classes."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Classes s0 to s7 of report.css; a ninth series has the first one's colour again.
SERIES = 8
_WIDTH = 460
_ROW = 34


@dataclass(frozen=True)
class Curve:
    """One line of a chart; None where there is no value at that x."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def distributions(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Box plots with every case as a point, one row a label, on one axis.

    The box reaches from the 25 % to the 75 % quantile with the median as a line; the thin line reaches from the
    smallest to the largest value.

    Parameters
    ----------
    rows
        Label to case to value.
    """
    values = [value for row in rows.values() for value in row.values()]
    if not values:
        return ""
    label_width = min(150, 14 + 7 * max(len(label) for label in rows)) if len(rows) > 1 else 12
    ticks = nice_ticks(min(values), max(values))
    axis = _Axis(ticks[0], ticks[-1], label_width, _WIDTH - 16)
    height = 8 + _ROW * len(rows) + 26
    parts = [_grid_line(axis.at(tick), 4, height - 24, _tick(tick, ticks), height - 8) for tick in ticks]
    for number, (label, row) in enumerate(rows.items()):
        middle = 8 + _ROW * (number + 0.5)
        if len(rows) > 1:
            shown = label if len(label) < 21 else f"{label[:19]}…"
            parts.append(
                f"<text class='label' x='{label_width - 8}' y='{middle + 4:.0f}' text-anchor='end'>"
                f"{html.escape(shown)}<title>{html.escape(label)}</title></text>"
            )
        if row:
            parts.append(f"<g class='s{number % SERIES}'>{_box(axis, middle, row)}</g>")
    return _figure(title, height, "".join(parts))


def curves(title: str, x: Sequence[float], lines: Sequence[Curve], x_name: str = "epoch") -> str:
    """Lines over `x`; a value of None is left out."""
    known = [value for line in lines for value in line.values if value is not None]
    if not known:
        return ""
    height = 230
    ticks = nice_ticks(min(known), max(known))
    across = nice_ticks(min(x), max(x))
    vertical = _Axis(ticks[0], ticks[-1], height - 40, 12)
    # The horizontal axis ends with the data: room behind the last epoch would look like one that is missing.
    horizontal = _Axis(min(x), max(max(x), min(x) + 1), 62, _WIDTH - 16)
    parts = [
        f"<line class='grid' x1='62' x2='{_WIDTH - 16}' y1='{vertical.at(tick):.1f}' y2='{vertical.at(tick):.1f}'/>"
        f"<text class='tick' x='56' y='{vertical.at(tick) + 4:.1f}' text-anchor='end'>{_tick(tick, ticks)}</text>"
        for tick in ticks
    ]
    parts += [
        _grid_line(horizontal.at(tick), 12, height - 40, _tick(tick, across), height - 25)
        for tick in across
        if min(x) <= tick <= max(x) and float(tick).is_integer()
    ]
    parts.append(f"<text class='tick' x='{(46 + _WIDTH) / 2}' y='{height - 8}' text-anchor='middle'>{x_name}</text>")
    for number, line in enumerate(lines):
        points = [(at, value) for at, value in zip(x, line.values, strict=True) if value is not None]
        path = " ".join(f"{horizontal.at(at):.1f},{vertical.at(value):.1f}" for at, value in points)
        parts.append(f"<g class='s{number % SERIES}'><polyline class='curve' points='{path}'/>")
        if len(points) <= 60:
            parts += [
                f"<circle cx='{horizontal.at(at):.1f}' cy='{vertical.at(value):.1f}' r='2.5'>"
                f"<title>{html.escape(line.name)}, {x_name} {at:g}: {value:.5g}</title></circle>"
                for at, value in points
            ]
        parts.append("</g>")
    return _figure(title, height, "".join(parts), [line.name for line in lines] if len(lines) > 1 else [])


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose `low` and `high`, steps of 1, 2 or 5 times a power of ten."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _box(axis: _Axis, middle: float, row: Mapping[str, float]) -> str:
    values = np.array(list(row.values()))
    low, quarter, median, three_quarters, high = (axis.at(v) for v in np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
    width = max(three_quarters - quarter, 1)
    parts = [
        f"<line class='whisker' x1='{low:.1f}' x2='{high:.1f}' y1='{middle}' y2='{middle}'/>",
        f"<rect class='box' x='{quarter:.1f}' y='{middle - 9}' width='{width:.1f}' height='18'/>",
        f"<line class='median' x1='{median:.1f}' x2='{median:.1f}' y1='{middle - 9}' y2='{middle + 9}'/>",
    ]
    # Points are spread a little up and down, always the same way, so that equal values can be told apart.
    shift = np.random.default_rng(0).uniform(-7, 7, len(values))
    parts += [
        f"<circle cx='{axis.at(value):.1f}' cy='{middle + shift[k]:.1f}' r='3'>"
        f"<title>{html.escape(name)}: {value:.5g}</title></circle>"
        for k, (name, value) in enumerate(row.items())
    ]
    return "".join(parts)


def _figure(title: str, height: float, content: str, legend: Sequence[str] = ()) -> str:
    names = "".join(f"<li class='s{k % SERIES}'>{html.escape(name)}</li>" for k, name in enumerate(legend))
    return (
        f"<figure class='chart'><figcaption>{html.escape(title)}</figcaption>"
        f"<svg viewBox='0 0 {_WIDTH} {height:g}' role='img' aria-label='{html.escape(title)}'>{content}</svg>"
        f"{f'<ul class=legend>{names}</ul>' if names else ''}</figure>"
    )


def _grid_line(x: float, top: float, bottom: float, text: str, text_y: float) -> str:
    return (
        f"<line class='grid' x1='{x:.1f}' x2='{x:.1f}' y1='{top:g}' y2='{bottom:g}'/>"
        f"<text class='tick' x='{x:.1f}' y='{text_y:g}' text-anchor='middle'>{text}</text>"
    )


def _tick(value: float, ticks: Sequence[float]) -> str:
    """As many decimals as the step needs; powers of ten for what is very small or large."""
    step = ticks[1] - ticks[0]
    if max(abs(ticks[0]), abs(ticks[-1])) >= 1e6 or step < 1e-4:
        return "0" if abs(value) < step / 2 else f"{value:.3g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{decimals}f}"
