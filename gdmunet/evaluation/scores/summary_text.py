"""A summary as text: a table for the terminal, and CSV with every digit for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gdmunet.atomic import write_text
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.scores.summary import CaseRow, Statistics, Summary
from gdmunet.metrics import METRICS, Metric, metrics_in
from gdmunet.quantities import counted


def format_table(summary: Summary, most: int = 40) -> str:
    """A plain table: one line for each of the first `most` cases, then statistics and groups; the range is above it."""
    metrics, unit = metrics_in(summary.metrics), summary.settings.target_unit
    names = list(summary.cases)
    rows = [["case", *(metric.head(unit) for metric in metrics)]]
    rows += [_case_cells(name, summary.cases[name], metrics, unit) for name in names[:most]]
    if len(names) > most:
        rows.append([f"... {len(names) - most} more"])
    if not summary.statistics.of_one_case:
        rows.append([])
        rows += [[label, *cells] for label, cells in statistics_rows(summary.statistics, metrics, unit)]
    for kind, groups in summary.groups.items():
        rows.append([])
        rows += [
            [f"{kind} {group}: mean of {max(part.count.values(), default=0)}", *_cells(part.mean, metrics, unit)]
            for group, part in groups.items()
        ]
    lines = [summary.settings.describe(), *aligned(rows)]
    lines += [] if not summary.distributions else [""]
    lines += [judgement_line(judgement) for judgement in summary.distributions]
    if summary.failed:
        lines += ["", f"{summary.failed} of {counted(names, 'case')} have no scores and are not in the means:"]
        lines += [f"  {name}: {error}" for name, error in summary.errors.items()]
    lines += [
        f"note: {name}: {METRICS[metric].label} {reason}"
        for name, notes in summary.notes.items()
        for metric, reason in notes.items()
    ]
    lines += summary.warnings
    return "\n".join(lines)


def judgement_line(judgement: Judgement) -> str:
    """``as distributions, in the features of mini (0123...): Frechet 0.0012 [0.0010, 0.0014], MMD 0.0001``."""
    texts = (f"{METRICS[name].label} {distance_text(judgement, name)}" for name in judgement.values)
    return f"as distributions, in the features of {judgement.title}: {', '.join(texts)}"


def distance_text(judgement: Judgement, name: str) -> str:
    """A distance and, if there is one, its interval over cases: ``0.0012 [0.0010, 0.0014]``."""
    numbers = [judgement.values[name], *judgement.intervals.get(name, ())]
    value, *ends = (METRICS[name].text(number, "") for number in numbers)
    return f"{value} [{', '.join(ends)}]" if ends else value


def write_csv(summary: Summary, file: Path) -> None:
    """One line for each case: case, every metric, error; empty where there is no finite value."""
    metrics = summary.metrics
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *metrics, "error"])
    for name, row in summary.cases.items():
        writer.writerow([name, *("" if row.get(m) is None else row[m] for m in metrics), row.get("error", "")])
    write_text(file, text.getvalue())


def statistics_rows(found: Statistics, metrics: Sequence[Metric], unit: str) -> list[tuple[str, list[str]]]:
    """Name of each statistic and its texts by metric, as the terminal and the page show them."""
    columns: dict[str, Mapping[str, float]] = {
        "mean": found.mean,
        "mean from (95 %)": {name: low for name, (low, _) in found.interval.items()},
        "mean to (95 %)": {name: high for name, (_, high) in found.interval.items()},
        "std": found.std,
        "min": found.min,
        "25 %": {name: low for name, (low, _) in found.quartiles.items()},
        "median": found.median,
        "75 %": {name: high for name, (_, high) in found.quartiles.items()},
        "max": found.max,
    }
    rows = [(label, _cells(values, metrics, unit)) for label, values in columns.items()]
    return [*rows, ("count", [str(found.count.get(metric.name, 0)) for metric in metrics])]


def mean_and_spread(found: Statistics | None, metric: Metric, unit: str) -> str:
    """``mean ± standard deviation (count)``, of one case its value alone, ``value (1)``; or a dash."""
    if found is None or not found.count.get(metric.name):
        return "-"
    mean, std = (metric.text(values[metric.name], unit) for values in (found.mean, found.std))
    count = found.count[metric.name]
    return f"{mean} ± {std} ({count})" if count > 1 else f"{mean} ({count})"


def score_of(row: CaseRow, metric: Metric) -> float | None:
    """A case's value of a metric; None where it has none."""
    value = row.get(metric.name)
    return float(value) if isinstance(value, int | float) else None


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right; a row may be short."""
    widths = [max(len(row[k]) for row in rows if k < len(row)) for k in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        lines.append("  ".join([(row[0] if row else "").ljust(widths[0]), *cells]).rstrip())
    return lines


def _case_cells(name: str, row: CaseRow, metrics: Sequence[Metric], unit: str) -> list[str]:
    if "error" in row:
        return [name, "no scores"]  # the reason may be long: it stands below the table
    return [name, *(metric.text(score_of(row, metric), unit) for metric in metrics)]


def _cells(values: Mapping[str, float], metrics: Sequence[Metric], unit: str) -> list[str]:
    return [metric.text(values.get(metric.name), unit) for metric in metrics]
