"""The tables of the page as values; ``parts.html`` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gdmunet.evaluation.comparison.paired import Comparison
from gdmunet.evaluation.comparison.tables import difference_text, find_difference, table_columns
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.scores.summary import CaseRow, Statistics, Summary
from gdmunet.evaluation.scores.summary_text import distance_text, mean_and_spread, score_of, statistics_rows
from gdmunet.metrics import METRICS, Metric, metrics_in


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and the number by which its column is sorted (None: by the text)."""

    text: str
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose heads sort it; `foot` is not sorted. The first cell of a row names it."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[tuple[Cell, ...], ...] = ()


def score_table(summary: Summary) -> Table:
    """One line for each case, statistics below."""
    metrics, unit = metrics_in(summary.metrics), summary.settings.target_unit
    rows = [(Cell(name), *_score_cells(row, metrics, unit)) for name, row in summary.cases.items()]
    foot = [
        (Cell(name), *(Cell(text) for text in texts))
        for name, texts in statistics_rows(summary.statistics, metrics, unit)
    ]
    heads = ("case", *(metric.head(unit) for metric in metrics))
    return Table(
        "Scores by case; a head sorts", heads, tuple(rows), () if summary.statistics.of_one_case else tuple(foot)
    )


def judgement_table(judgements: Sequence[Judgement]) -> Table:
    """The distances between predictions and references as sets, one line for each encoder."""
    metrics = metrics_in(judgements[0].values)
    rows = tuple(
        (Cell(one.title), *(Cell(distance_text(one, m.name), one.values[m.name]) for m in metrics))
        for one in judgements
    )
    return Table(
        "All predictions against all references as distributions, by encoder [95 % interval over cases]",
        ("encoder", *(metric.head("") for metric in metrics)),
        rows,
    )


def group_table(kind: str, groups: Mapping[str, Statistics], metrics: Sequence[Metric], unit: str) -> Table:
    """One line for each group: mean ± standard deviation (cases)."""
    rows = [
        (Cell(name), *(Cell(mean_and_spread(statistics, m, unit), statistics.mean.get(m.name)) for m in metrics))
        for name, statistics in groups.items()
    ]
    heads = (kind, *(metric.head(unit) for metric in metrics))
    return Table(f"Mean ± standard deviation (cases) by {kind}", heads, tuple(rows))


def trainer_table(comparison: Comparison) -> Table:
    """One line for each trainer: main scores, distances, costs; the best of each column is bold."""
    columns = table_columns(comparison)
    rows = []
    for position, row in enumerate(comparison.rows):
        cells = [Cell(row.trainer)]
        for column in columns:
            value = column.values[position]
            cells.append(Cell(column.texts[position], value, value is not None and value == column.best))
        rows.append(tuple(cells))
    heads = ("trainer", *(column.head for column in columns))
    return Table("Mean ± standard deviation (cases); bold: the best of the column", heads, tuple(rows))


def difference_table(
    comparison: Comparison, metrics: Sequence[Metric], kind: str | None = None, group: str | None = None
) -> Table:
    """One line for each trainer but the first: paired differences to the first."""
    unit = comparison.settings.target_unit
    rows = []
    for row in comparison.rows[1:]:
        differences = [find_difference(comparison, row.trainer, metric.name, kind, group) for metric in metrics]
        cells = (Cell(difference_text(part, unit), part.mean if part else None) for part in differences)
        rows.append((Cell(row.trainer), *cells))
    where = f", {kind} {group}" if kind else ""
    caption = f"Paired differences to {comparison.rows[0].trainer}{where}: mean [interval], p"
    return Table(caption, ("trainer", *(metric.head(unit) for metric in metrics)), tuple(rows))


def case_table(scores: Mapping[str, Mapping[str, CaseRow]], metric: Metric, unit: str) -> Table:
    """One line for each case and one column for each trainer, of one metric."""
    names = dict.fromkeys(name for rows in scores.values() for name in rows)
    lines = [
        (Cell(name), *(_score_cells(rows.get(name, {}), [metric], unit)[0] for rows in scores.values()))
        for name in names
    ]
    return Table(f"{metric.head(unit)} by case and trainer", ("case", *scores), tuple(lines))


def case_line(row: CaseRow, extra: Metric, unit: str) -> str:
    """The main scores of a case and the one that orders the cases, in one line; or the error."""
    if "error" in row:
        return str(row["error"])
    shown = [metric for metric in METRICS.values() if metric.main or metric == extra]
    values = [(metric, score_of(row, metric)) for metric in shown]
    return " · ".join(metric.sentence(value, unit) for metric, value in values if value is not None)


def _score_cells(row: CaseRow, metrics: Sequence[Metric], unit: str) -> list[Cell]:
    values = [(metric, score_of(row, metric)) for metric in metrics]
    return [Cell("no scores" if "error" in row else metric.text(value, unit), value) for metric, value in values]
