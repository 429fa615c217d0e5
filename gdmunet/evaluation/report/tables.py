"""Tables of the page; every text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gdmunet.evaluation.comparison.results import Comparison
from gdmunet.evaluation.comparison.tables import (
    difference_text,
    find_difference,
    label_of,
    mean_and_spread,
    number,
    table_columns,
)
from gdmunet.evaluation.scores.summary import CaseRow, Statistics, Summary


@dataclass(frozen=True)
class Cell:
    """One cell: what stands there, and the number by which its column is sorted (None: by the text)."""

    text: str
    value: float | None = None
    best: bool = False


def table(
    heads: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str, foot: Sequence[Sequence[Cell]] = ()
) -> str:
    """A table whose heads are buttons that sort it; `foot` is not sorted."""
    columns = "".join(
        f"<th scope='col' aria-sort='none'><button type='button'>{html.escape(head)}</button></th>" for head in heads
    )
    body = "".join(_line(row) for row in rows)
    below = f"<tfoot>{''.join(_line(row) for row in foot)}</tfoot>" if foot else ""
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{html.escape(caption)}'><table class='sortable'>"
        f"<caption>{html.escape(caption)}</caption><thead><tr>{columns}</tr></thead><tbody>{body}</tbody>{below}"
        "</table></div>"
    )


def score_table(summary: Summary) -> str:
    """One line a case, statistics below."""
    metrics, hounsfield = summary.metrics, summary.settings.hounsfield
    heads = ["case", *(label_of(metric, hounsfield) for metric in metrics)]
    rows = [[Cell(name), *_score_cells(row, metrics)] for name, row in summary.cases.items()]
    kinds: tuple[tuple[str, Mapping[str, float]], ...] = (
        ("mean", summary.mean),
        ("standard deviation", summary.std),
        ("smallest", summary.min),
        ("25 %", {name: low for name, (low, _) in summary.quartiles.items()}),
        ("median", summary.median),
        ("75 %", {name: high for name, (_, high) in summary.quartiles.items()}),
        ("largest", summary.max),
    )
    foot = [[Cell(name), *(Cell(number(values.get(m), m)) for m in metrics)] for name, values in kinds]
    foot.append([Cell("cases"), *(Cell(str(summary.count.get(metric, 0))) for metric in metrics)])
    return table(heads, rows, "Scores by case; a head sorts", foot)


def group_table(kind: str, groups: Mapping[str, Statistics], metrics: Sequence[str], hounsfield: bool) -> str:
    """One line a group: mean ± standard deviation (cases)."""
    heads = [kind, *(label_of(metric, hounsfield) for metric in metrics)]
    rows = [
        [Cell(name), *(Cell(mean_and_spread(found, m), found.mean.get(m)) for m in metrics)]
        for name, found in groups.items()
    ]
    return table(heads, rows, f"Mean ± standard deviation (cases) by {kind}")


def trainer_table(comparison: Comparison) -> str:
    """One line a trainer: main scores, distances, costs; the best of each column is bold."""
    columns = table_columns(comparison)
    rows = []
    for position, row in enumerate(comparison.rows):
        cells = [Cell(row.trainer)]
        for column in columns:
            value = column.values[position]
            cells.append(Cell(column.texts[position], value, value is not None and value == column.best))
        rows.append(cells)
    heads = ["trainer", *(column.head for column in columns)]
    return table(heads, rows, "Mean ± standard deviation (cases); bold: the best of the column")


def difference_table(
    comparison: Comparison, metrics: Sequence[str], kind: str | None = None, group: str | None = None
) -> str:
    """One line a trainer but the first: paired differences to the first."""
    heads = ["trainer", *(label_of(metric, comparison.settings.hounsfield) for metric in metrics)]
    rows = []
    for row in comparison.rows[1:]:
        cells = [Cell(row.trainer)]
        for metric in metrics:
            found = find_difference(comparison, row.trainer, metric, kind, group)
            cells.append(Cell(difference_text(found), found.mean if found else None))
        rows.append(cells)
    where = f", {kind} {group}" if kind else ""
    return table(heads, rows, f"Paired differences to {comparison.rows[0].trainer}{where}: mean [interval], p")


def case_table(scores: Mapping[str, Mapping[str, CaseRow]], metric: str, hounsfield: bool) -> str:
    """One line a case, one column a trainer, of one metric."""
    names = list(dict.fromkeys(name for rows in scores.values() for name in rows))
    lines = [
        [Cell(name), *(_score_cells(rows.get(name, {}), [metric])[0] for rows in scores.values())] for name in names
    ]
    return table(["case", *scores], lines, f"{label_of(metric, hounsfield)} by case and trainer")


def _score_cells(row: CaseRow, metrics: Sequence[str]) -> list[Cell]:
    cells = []
    for metric in metrics:
        value = row.get(metric)
        known = float(value) if isinstance(value, int | float) else None
        cells.append(Cell(number(known, metric) if "error" not in row else "no scores", known))
    return cells


def _line(row: Sequence[Cell]) -> str:
    cells = []
    for place, cell in enumerate(row):
        value = "" if cell.value is None else f" data-value='{cell.value!r}'"
        text = f"<strong>{html.escape(cell.text)}</strong>" if cell.best else html.escape(cell.text)
        cells.append(f"<th scope='row'{value}>{text}</th>" if place == 0 else f"<td{value}>{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"
