"""A comparison as files: JSON and CSV for programs, Markdown for pages, LaTeX (booktabs) for papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gdmunet.atomic import write_text
from gdmunet.evaluation.comparison.paired import Comparison, save_comparison
from gdmunet.evaluation.comparison.tables import (
    Column,
    cases_csv,
    difference_text,
    explanation,
    find_difference,
    main_metrics,
    table_columns,
    trainers_csv,
)
from gdmunet.evaluation.scores.summary import Statistics
from gdmunet.evaluation.scores.summary_text import mean_and_spread
from gdmunet.metrics import Metric
from gdmunet.results import COMPARISON_FILE


def write_comparison(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write comparison.json, .md, .tex, .csv (a line for each trainer and group) and comparison_cases.csv."""
    folder = Path(folder)
    save_comparison(comparison, folder / COMPARISON_FILE)
    texts = {
        "comparison.csv": trainers_csv(comparison),
        "comparison_cases.csv": cases_csv(comparison),
        "comparison.md": format_markdown(comparison),
        "comparison.tex": format_latex(comparison),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return (folder / COMPARISON_FILE, *(folder / name for name in texts))


def format_markdown(comparison: Comparison) -> str:
    """Trainers, differences to the first, groups and failures as Markdown tables."""
    columns = table_columns(comparison)
    lines = [f"# {_cell(comparison.title or 'Comparison')}", ""]
    lines += _markdown_table(_heads(columns), _body(comparison, columns, "**{}**"))
    metrics = main_metrics(comparison)
    heads = _metric_heads(comparison, metrics)
    if comparison.differences:
        lines += ["", f"## Differences to {_cell(comparison.rows[0].trainer)}", ""]
        lines += _markdown_table(heads, _difference_rows(comparison, metrics))
    for kind, groups in comparison.groups.items():
        for group, by_trainer in groups.items():
            lines += ["", f"## {_cell(kind)}: {_cell(group)}", ""]
            lines += _markdown_table(heads, _group_rows(comparison, metrics, by_trainer))
            if comparison.differences:
                lines += ["", f"Differences to {_cell(comparison.rows[0].trainer)}:", ""]
                lines += _markdown_table(heads, _difference_rows(comparison, metrics, kind, group))
    failures = [f"* {_cell(row.trainer)}: {_cell(row.failure)}" for row in comparison.rows if row.failure]
    lines += ["", "## Without scores", "", *failures] if failures else []
    return "\n".join([*lines, "", explanation(comparison), ""])


def format_latex(comparison: Comparison) -> str:
    """The table of trainers, below it the differences, and both for every group, as booktabs tabulars."""
    columns = table_columns(comparison)
    lines = [f"% {' '.join(line.split())}" for line in (comparison.title, explanation(comparison)) if line]
    lines += _latex_table(_heads(columns), _body(comparison, columns, "\\textbf{{{}}}", latex_text))
    metrics = main_metrics(comparison)
    lines += _latex_differences(comparison, metrics)
    for kind, groups in comparison.groups.items():
        for group, by_trainer in groups.items():
            rows = [[latex_text(cell) for cell in row] for row in _group_rows(comparison, metrics, by_trainer)]
            lines += ["", f"% {' '.join(f'{kind}: {group}'.split())}"]
            lines += _latex_table(_metric_heads(comparison, metrics), rows)
            lines += _latex_differences(comparison, metrics, kind, group)
    lines += [f"% {row.trainer}: {' '.join(row.failure.split())}" for row in comparison.rows if row.failure]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """Escape what LaTeX would read as a command; ± and minus become mathematics."""
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "±": "$\\pm$",
        "<": "$<$",
        ">": "$>$",
    }
    return "".join(special.get(character, character) for character in text)


def _heads(columns: Sequence[Column]) -> list[str]:
    return ["trainer", *(column.head for column in columns)]


def _metric_heads(comparison: Comparison, metrics: Sequence[Metric]) -> list[str]:
    return ["trainer", *(metric.head(comparison.settings.target_unit) for metric in metrics)]


def _body(
    comparison: Comparison, columns: Sequence[Column], bold: str, escape: Callable[[str], str] = str
) -> list[list[str]]:
    rows = []
    for position, row in enumerate(comparison.rows):
        cells = [escape(row.trainer)]
        for column in columns:
            text = escape(column.texts[position])
            is_best = column.best is not None and column.values[position] == column.best
            cells.append(bold.format(text) if is_best else text)
        rows.append(cells)
    return rows


def _difference_rows(
    comparison: Comparison, metrics: Sequence[Metric], kind: str | None = None, group: str | None = None
) -> list[list[str]]:
    unit = comparison.settings.target_unit
    rows = []
    for name in _trainers(comparison)[1:]:
        differences = [find_difference(comparison, name, metric.name, kind, group) for metric in metrics]
        rows.append([name, *(difference_text(difference, unit) for difference in differences)])
    return rows


def _group_rows(
    comparison: Comparison, metrics: Sequence[Metric], by_trainer: Mapping[str, Statistics]
) -> list[list[str]]:
    unit = comparison.settings.target_unit
    return [
        [name, *(mean_and_spread(by_trainer.get(name), metric, unit) for metric in metrics)]
        for name in _trainers(comparison)
    ]


def _latex_differences(
    comparison: Comparison, metrics: Sequence[Metric], kind: str | None = None, group: str | None = None
) -> list[str]:
    if not comparison.differences:
        return []
    rows = [[latex_text(cell) for cell in row] for row in _difference_rows(comparison, metrics, kind, group)]
    where = "" if group is None else f", {' '.join(f'{kind}: {group}'.split())}"
    return ["", f"% differences to the first trainer{where}", *_latex_table(_metric_heads(comparison, metrics), rows)]


def _trainers(comparison: Comparison) -> list[str]:
    return [row.trainer for row in comparison.rows]


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "| --- |" + " ---: |" * (len(heads) - 1)
    return [
        "| " + " | ".join(map(_cell, heads)) + " |",
        rule,
        *("| " + " | ".join(map(_cell, row)) + " |" for row in rows),
    ]


def _latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        " & ".join(map(latex_text, heads)) + " \\\\",
        "\\midrule",
        *(" & ".join(row) + " \\\\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
