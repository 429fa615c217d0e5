"""A summary for people: a table on the terminal, a CSV file, an HTML page that needs nothing else."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gdmunet.atomic import write_text
from gdmunet.evaluation.scores.summary import CaseRow, Statistics, Summary
from gdmunet.metrics import METRIC_TEXTS

_STATISTICS = ("mean", "std", "min", "25 %", "median", "75 %", "max", "count")
_STYLE = """
body { font-family: system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin: 1em 0 2em; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #888; }
tbody.statistics td { background: #f4f4f4; }
dt { font-weight: 600; } dd { margin: 0 0 .4em 1.5em; }
"""


def format_table(summary: Summary, most: int = 40) -> str:
    """A plain table: one line a case (the first `most`), then statistics and groups; the range stands above it."""
    metrics = summary.metrics
    names = list(summary.cases)
    rows = [["case", *metrics]]
    rows += [_case_cells(name, summary.cases[name], metrics) for name in names[:most]]
    if len(names) > most:
        rows.append([f"... {len(names) - most} more"])
    rows.append([])
    rows += [[label, *cells] for label, cells in _statistics_rows(summary, metrics)]
    for kind, groups in summary.groups.items():
        rows.append([])
        rows += [
            [f"{kind} {group}: mean of {max(found.count.values(), default=0)}", *_cells(found.mean, metrics)]
            for group, found in groups.items()
        ]
    widths = [max((len(row[k]) for row in rows if k < len(row)), default=0) for k in range(len(metrics) + 1)]
    lines = [summary.settings.describe()]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        lines.append("  ".join([(row[0] if row else "").ljust(widths[0]), *cells]).rstrip())
    if summary.distribution is not None:
        found = summary.distribution
        lines += ["", f"as distributions, in the features of {found.encoder} ({found.sha256[:12]}): "
                  f"Frechet {found.frechet:.4g}, MMD {found.mmd:.4g}"]  # fmt: skip
    if summary.failed:
        lines += ["", f"{summary.failed} of {len(names)} cases have no scores and are in no mean:"]
        lines += [f"  {name}: {error}" for name, error in summary.errors.items()]
    lines += [
        f"note: {name}: {metric} {reason}" for name, notes in summary.notes.items() for metric, reason in notes.items()
    ]
    return "\n".join(lines)


def write_csv(summary: Summary, file: Path) -> None:
    """One line a case: case, every metric, error; empty where there is no finite value."""
    metrics = summary.metrics
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *metrics, "error"])
    for name, row in summary.cases.items():
        writer.writerow([name, *("" if row.get(m) is None else row[m] for m in metrics), row.get("error", "")])
    write_text(file, text.getvalue())


def write_html(summary: Summary, file: Path, title: str = "Evaluation") -> None:
    """One page without scripts or other files: settings, cases, statistics, groups, what the metrics mean."""
    metrics = summary.metrics
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(summary.settings.describe())}</p>",
        f"<p>{len(summary.cases) - summary.failed} cases scored, {summary.failed} without scores.</p>",
        "<h2>Cases</h2>",
        _html_table(
            ["case", *metrics],
            [_case_cells(name, row, metrics) for name, row in summary.cases.items()],
            [[label, *cells] for label, cells in _statistics_rows(summary, metrics)],
        ),
    ]
    for kind, groups in summary.groups.items():
        rows = [[group, *_group_cells(found, metrics)] for group, found in groups.items()]
        parts.append(f"<h2>By {html.escape(kind)}</h2>")
        parts.append("<p>mean ± standard deviation (number of cases)</p>")
        parts.append(_html_table([kind, *metrics], rows))
    if summary.failed:
        items = [f"{name}: {error}" for name, error in summary.errors.items()]
        parts.append(f"<h2>Without scores, in no mean</h2>{_html_list(items)}")
    if summary.notes:
        items = [f"{name}, {m}: {reason}" for name, notes in summary.notes.items() for m, reason in notes.items()]
        parts.append(f"<h2>Notes</h2>{_html_list(items)}")
    meaning = "".join(f"<dt>{metric}</dt><dd>{html.escape(METRIC_TEXTS[metric])}</dd>" for metric in metrics)
    versions = ", ".join(f"{name} {version}" for name, version in summary.settings.versions.items())
    parts.append(f"<h2>Metrics</h2><dl>{meaning}</dl><p>{html.escape(versions)}</p></body></html>\n")
    write_text(file, "\n".join(parts))


def _case_cells(name: str, row: CaseRow, metrics: Sequence[str]) -> list[str]:
    if "error" in row:
        return [name, "no scores"]  # the reason may be long: it stands below the table
    return [name, *_cells(row, metrics)]


def _statistics_rows(found: Summary, metrics: Sequence[str]) -> list[tuple[str, list[str]]]:
    columns: list[Mapping[str, float]] = [
        found.mean,
        found.std,
        found.min,
        {name: low for name, (low, _) in found.quartiles.items()},
        found.median,
        {name: high for name, (_, high) in found.quartiles.items()},
        found.max,
    ]
    rows = [(label, _cells(values, metrics)) for label, values in zip(_STATISTICS[:-1], columns, strict=True)]
    return [*rows, (_STATISTICS[-1], [str(found.count[name]) for name in metrics])]


def _group_cells(found: Statistics, metrics: Sequence[str]) -> list[str]:
    return [
        f"{_number(found.mean[name], name)} ± {_number(found.std[name], name)} ({found.count[name]})"
        if found.count.get(name)
        else "-"
        for name in metrics
    ]


def _cells(values: Mapping[str, float | str | None], metrics: Sequence[str]) -> list[str]:
    return [_number(values.get(name), name) for name in metrics]


def _number(value: float | str | None, metric: str) -> str:
    """Scores of 0 to 2 need their decimals; the others are in the target's unit or in dB."""
    if not isinstance(value, int | float):
        return "-"
    if metric in ("ms_ssim", "ssim", "nmi", "dice"):
        return f"{value:.4f}"
    return f"{value:.2f}" if metric == "psnr" or abs(value) >= 1 else f"{value:.4g}"


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[Sequence[str]] = ()) -> str:
    def line(cells: Sequence[str]) -> str:
        shown = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        missing = len(head) - len(cells)
        return f"<tr>{shown}{f'<td colspan={missing}></td>' if missing else ''}</tr>"

    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(line(row) for row in rows)
    foot = f"<tbody class='statistics'>{''.join(line(row) for row in below)}</tbody>" if below else ""
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody>{foot}</table>"


def _html_list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"
