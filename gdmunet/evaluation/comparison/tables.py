"""The cells of a comparison's tables, and the tables for programs (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gdmunet.evaluation.comparison.paired import Comparison, PairedDifference, TrainerRow
from gdmunet.evaluation.comparison.price import price_ratio
from gdmunet.evaluation.scores.summary_text import distance_text, mean_and_spread
from gdmunet.metrics import METRICS, PRICE, Metric, metrics_in


@dataclass(frozen=True)
class Column:
    """One column of the table of trainers: its head, and each row's value and text.

    `best` is the value that is printed bold; None where there is no best one.
    """

    head: str
    values: tuple[float | None, ...]
    texts: tuple[str, ...]
    best: float | None


def cases_csv(comparison: Comparison) -> str:
    """One line for each trainer and case: every metric (empty where there is none), and the error."""
    metrics = comparison.metrics
    lines: list[Sequence[object]] = [["trainer", "case", *metrics, "error"]]
    for row in comparison.rows:
        for name, case in row.cases.items():
            cells = ["" if case.get(metric) is None else case[metric] for metric in metrics]
            lines.append([row.trainer, name, *cells, case.get("error", "")])
        if row.failure is not None:
            lines.append([row.trainer, "", *[""] * len(metrics), row.failure])
    return _csv(lines)


def trainers_csv(comparison: Comparison) -> str:
    """One line for each trainer: mean, spread, count and difference to the first by metric, distances, costs, failure.

    Below them a line for each trainer and group, with the metrics of the group's cases; ``kind`` and ``group`` are
    empty in the lines of all cases, distances and costs in those of groups.
    """
    costs = ("network_passes", "seconds", "peak_memory_mb", "training_seconds", "parameters")
    parts = ("mean", "std", "count", "difference", "difference_low", "difference_high", "p_value")
    heads = [f"{metric}_{part}" for metric in comparison.metrics for part in parts]
    distances = _distance_columns(comparison)
    names = [column.head for column in distances]
    lines: list[Sequence[object]] = [["trainer", "kind", "group", *heads, *names, *costs, "failure"]]
    for position, row in enumerate(comparison.rows):
        more: list[object] = [column.values[position] for column in distances]
        more += [getattr(row.cost, name) for name in costs]
        lines.append([row.trainer, None, None, *_score_cells(comparison, row.trainer), *more, row.failure])
    rest = [None] * (len(distances) + len(costs) + 1)
    for kind, groups in comparison.groups.items():
        for group, by_trainer in groups.items():
            lines += [[name, kind, group, *_score_cells(comparison, name, kind, group), *rest] for name in by_trainer]
    return _csv([["" if cell is None else cell for cell in line] for line in lines])


def find_difference(
    comparison: Comparison, trainer: str, metric: str, kind: str | None = None, group: str | None = None
) -> PairedDifference | None:
    """The difference of one trainer in one metric and group; None for the first trainer and where no pair exists."""
    for difference in comparison.differences:
        if (difference.trainer, difference.metric, difference.kind, difference.group) == (trainer, metric, kind, group):
            return difference
    return None


def main_metrics(comparison: Comparison) -> tuple[Metric, ...]:
    """The scored metrics that a paper's table shows; every metric is in the CSV files."""
    return tuple(metric for metric in metrics_in(comparison.metrics) if metric.main)


def table_columns(comparison: Comparison) -> tuple[Column, ...]:
    """Columns of the table of trainers: main metrics (mean ± spread), distances, costs.

    A column in which nobody has a value is left out.
    """
    columns = [*_metric_columns(comparison), *_distance_columns(comparison), *_cost_columns(comparison.rows)]
    return tuple(column for column in columns if any(value is not None for value in column.values))


def difference_text(found: PairedDifference | None, unit: str) -> str:
    """``-3.10 [-4.00, -2.20], p 0.030``, or a dash; `unit` is that of the target."""
    if found is None:
        return "-"
    metric = METRICS[found.metric]
    mean = metric.text(found.mean, unit, signed=True)
    if found.interval is None or found.p_value is None:
        return mean
    low, high = (metric.text(value, unit, signed=True) for value in found.interval)
    return f"{mean} [{low}, {high}], {p_text(found.p_value)}"


def p_text(value: float) -> str:
    """``p 0.031``; values below 0.001 are written as such."""
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def explanation(comparison: Comparison) -> str:
    """Explanation of the tables' numbers in one or two sentences."""
    resampling = comparison.resampling
    return (
        "Mean ± standard deviation over cases (number of cases). Differences: paired by case, this trainer minus "
        f"{comparison.rows[0].trainer}, with the {100 * resampling.confidence:g} % bootstrap interval of the mean "
        f"({resampling.resamples} resamples of the cases) and the p of Wilcoxon's signed-rank test, not corrected "
        f"for the number of tests. Scores: {comparison.settings.describe()}."
    )


def _metric_columns(comparison: Comparison) -> list[Column]:
    unit = comparison.settings.target_unit
    statistics = [comparison.statistics.get(row.trainer) for row in comparison.rows]
    return [
        _column(
            metric.head(unit),
            [of_trainer.mean.get(metric.name) if of_trainer else None for of_trainer in statistics],
            [mean_and_spread(of_trainer, metric, unit) for of_trainer in statistics],
            metric.badness,
        )
        for metric in main_metrics(comparison)
    ]


def _distance_columns(comparison: Comparison) -> list[Column]:
    """For each encoder its distances, and what a trainer paid for them."""
    columns = []
    for encoder in comparison.judges:
        judgements = [row.judgement(encoder) for row in comparison.rows]
        names = dict.fromkeys(name for one in judgements if one for name in one.values)
        for metric in metrics_in(names):
            values = [one.values[metric.name] if one else None for one in judgements]
            texts = [distance_text(one, metric.name) if one else "-" for one in judgements]
            columns.append(_column(f"{metric.label} ({encoder})", values, texts, metric.badness))
        prices = [price_ratio(comparison, row, encoder) for row in comparison.rows]
        ratios, texts = [price.ratio for price in prices], [price.text for price in prices]
        columns.append(_column(f"{PRICE.label} ({encoder})", ratios, texts))
    return columns


def _cost_columns(rows: Sequence[TrainerRow]) -> list[Column]:
    costs: tuple[tuple[str, Callable[[TrainerRow], float | None], str], ...] = (
        ("network passes", lambda row: row.cost.network_passes, "{:g}"),
        ("s per volume", lambda row: row.cost.seconds, "{:.2f}"),
        ("peak memory (MB)", lambda row: row.cost.peak_memory_mb, "{:.0f}"),
        ("training (min)", lambda row: _minutes(row.cost.training_seconds), "{:.1f}"),
        ("parameters (M)", lambda row: _millions(row.cost.parameters), "{:.2f}"),
    )
    columns = []
    for head, value_of, form in costs:
        values = [value_of(row) for row in rows]
        columns.append(_column(head, values, ["-" if value is None else form.format(value) for value in values]))
    return columns


def _column(
    head: str, values: Sequence[float | None], texts: Sequence[str], badness: Callable[[float], float] = abs
) -> Column:
    known = [value for value in values if value is not None]
    best = min(known, key=badness) if len(known) > 1 else None
    return Column(head, tuple(values), tuple(texts), best)


def _score_cells(
    comparison: Comparison, trainer: str, kind: str | None = None, group: str | None = None
) -> list[object]:
    """Cells of one line of the CSV: every metric's statistics and difference."""
    everywhere = comparison.statistics if kind is None or group is None else comparison.groups[kind][group]
    statistics = everywhere.get(trainer)
    cells: list[object] = []
    for metric in comparison.metrics:
        cells += (
            [part.get(metric) for part in (statistics.mean, statistics.std, statistics.count)]
            if statistics
            else [None] * 3
        )
        difference = find_difference(comparison, trainer, metric, kind, group)
        low, high = difference.interval if difference and difference.interval else (None, None)
        cells += [difference.mean if difference else None, low, high, difference.p_value if difference else None]
    return cells


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def _millions(count: int | None) -> float | None:
    return None if count is None else count / 1e6


def _csv(lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
