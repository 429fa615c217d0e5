"""The page's sections that need no script: what it is, scores, distributions, curves, groups, notes."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gdmunet.evaluation.comparison.results import Comparison
from gdmunet.evaluation.comparison.tables import MAIN_METRICS, explanation, label_of, number
from gdmunet.evaluation.report.charts import Curve, curves, distributions
from gdmunet.evaluation.report.sources import Source
from gdmunet.evaluation.report.tables import case_table, difference_table, group_table, score_table, trainer_table
from gdmunet.evaluation.scores.summary import CaseRow, Summary
from gdmunet.metrics import METRIC_TEXTS

# Titles of the curves of journal.jsonl; what is not named here gets a chart by the first word of its key.
_CHARTS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("validation patches, body MAE", (("validation_mae", "MAE"), ("validation_mae_ema", "its moving average"))),
    ("learning rate", (("learning_rate", "learning rate"),)),
    ("gradient norm before clipping", (("gradient_norm", "norm"),)),
    ("seconds an epoch", (("seconds", "training"), ("validation_seconds", "validation"))),
    ("share of the time spent waiting for patches", (("wait_share", "share"),)),
    ("peak memory (MB)", (("peak_memory_mb", "memory"),)),
)
_NOT_DRAWN = ("epoch", "iteration", "unit")


def sections_of(source: Source) -> str:
    """Everything between the page's head and its data."""
    parts = [_head(source)]
    if source.journal:
        parts.append(_section("curves", "Training curves", _training(source)))
    if source.comparison is not None:
        parts.append(_section("scores", "Comparison", _comparison(source.comparison)))
    elif source.summary is not None:
        parts.append(_section("scores", "Scores", _evaluation(source.summary)))
    metrics = _present(source.scores)
    if metrics:
        parts.append(_section("distributions", "Distributions", _distributions(source, metrics)))
    if source.files:
        # The controls that report.js adds stay in sight over both sections.
        parts.append("<div id='pictures'><section id='cases' aria-labelledby='h-cases'><h2 id='h-cases'>Cases</h2>")
        parts.append("</section><section id='viewer' aria-labelledby='h-viewer'><h2 id='h-viewer'>Viewer</h2>")
        parts.append("</section></div>")
        parts.append("<noscript><p>The pictures need JavaScript.</p></noscript>")
    if source.training:
        rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in source.training.items())
        parts.append(_section("settings", "Settings of the training", f"<dl class='settings'>{rows}</dl>"))
    if metrics:
        meaning = "".join(f"<dt>{name}</dt><dd>{html.escape(METRIC_TEXTS[name])}</dd>" for name in metrics)
        parts.append(_section("metrics", "What the scores mean", f"<dl>{meaning}</dl>{_versions(source)}"))
    return "\n".join([parts[0], "<main>", *parts[1:], "</main>"])


def journal_charts(rows: Sequence[Mapping[str, Any]]) -> str:
    """A chart of the losses, those of `_CHARTS`, and one for every further group of numbers."""
    epochs = [float(row.get("epoch", k)) + 1 for k, row in enumerate(rows)]
    keys = [key for row in rows for key, value in row.items() if _is_number(value) and key not in _NOT_DRAWN]
    left = list(dict.fromkeys(keys))
    unit = next((str(row["unit"]) for row in rows if row.get("unit")), "")
    losses = [key for key in left if key.startswith("loss")]
    charts = [("training loss (network units)", tuple((key, key.removeprefix("loss_")) for key in losses)), *_CHARTS]
    known = {key for _, lines in charts for key, _ in lines}
    others: dict[str, list[tuple[str, str]]] = {}
    for key in left:
        if key not in known:
            others.setdefault(key.split("_")[0], []).append((key, key))
    charts += [(title.replace("_", " "), tuple(lines)) for title, lines in others.items()]
    shown = []
    for title, lines in charts:
        present = [Curve(name, [_number(row.get(key)) for row in rows]) for key, name in lines if key in left]
        if present:
            shown.append(curves(f"{title} ({unit})" if title.endswith("MAE") and unit else title, epochs, present))
    return f"<div class='charts'>{''.join(shown)}</div>"


def _head(source: Source) -> str:
    facts = []
    if source.settings is not None:
        facts.append(("Scored", source.settings.describe()))
        if source.settings.checkpoint:
            facts.append(("Checkpoint", source.settings.checkpoint))
    if source.condition_name:
        facts.append(("Task", f"{source.condition_name} to {source.target_name}"))
    if source.summary is not None:
        scored = len(source.summary.cases) - source.summary.failed
        failed = f", {source.summary.failed} without scores" if source.summary.failed else ""
        facts.append(("Cases", f"{scored} scored{failed}"))
    if source.journal:
        last = source.journal[-1]
        facts.append(("Epochs", f"{last.get('epoch', 0) + 1}, {last.get('iteration', '?')} optimiser steps"))
    facts.append(("Folder", str(source.folder)))
    rows = "".join(f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    tiles = "".join(_tile(name, label, source) for name, label in _tiles(source))
    notes = "".join(f"<li>{_text(note)}</li>" for note in source.notes)
    return (
        f"<header><p class='kind'>{source.kind}</p><h1>{_text(source.title)}</h1><dl class='facts'>{rows}</dl>"
        f"{f'<ul class=tiles>{tiles}</ul>' if tiles else ''}"
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}</header>"
    )


def _tiles(source: Source) -> list[tuple[str, str]]:
    if source.summary is None:
        return []
    return [(m, label_of(m, source.summary.settings.hounsfield)) for m in MAIN_METRICS if m in source.summary.mean]


def _tile(metric: str, label: str, source: Source) -> str:
    if source.summary is None:
        return ""
    mean, std = source.summary.mean[metric], source.summary.std[metric]
    spread = f" ± {number(std, metric)}" if source.summary.count[metric] > 1 else ""
    return f"<li><span>{label}</span> <strong>{number(mean, metric)}</strong><small>{spread}</small></li>"


def _training(source: Source) -> str:
    return journal_charts(source.journal)


def _evaluation(summary: Summary) -> str:
    parts = [score_table(summary)]
    for kind, groups in summary.groups.items():
        parts.append(
            f"<h3>By {_text(kind)}</h3>{group_table(kind, groups, summary.metrics, summary.settings.hounsfield)}"
        )
    if summary.errors:
        items = _list(f"{name}: {error}" for name, error in summary.errors.items())
        parts.append(f"<h3>Without scores, in no mean</h3>{items}")
    if summary.notes:
        items = _list(f"{name}, {m}: {reason}" for name, notes in summary.notes.items() for m, reason in notes.items())
        parts.append(f"<h3>Notes</h3>{items}")
    return "".join(parts)


def _comparison(comparison: Comparison) -> str:
    metrics = [metric for metric in MAIN_METRICS if metric in comparison.metrics]
    parts = [f"<p>{_text(explanation(comparison))}</p>", trainer_table(comparison)]
    further = [metric for metric in comparison.metrics if metric not in metrics]
    if further:
        table = group_table("trainer", comparison.statistics, further, comparison.settings.hounsfield)
        parts.append(f"<h3>Further scores</h3>{table}")
    failures = [f"{row.trainer}: {row.failure}" for row in comparison.rows if row.failure]
    if failures:
        parts.append(f"<h3>Failed</h3>{_list(failures)}")
    if comparison.differences:
        parts.append(
            f"<h3>Differences to {_text(comparison.rows[0].trainer)}</h3>{difference_table(comparison, metrics)}"
        )
    for kind, groups in comparison.groups.items():
        for group, found in groups.items():
            parts.append(f"<h3>{_text(kind)}: {_text(group)}</h3>")
            parts.append(group_table("trainer", found, metrics, comparison.settings.hounsfield))
            if comparison.differences:
                parts.append(difference_table(comparison, metrics, kind, group))
    scores = {row.trainer: row.cases for row in comparison.rows if row.cases}
    for metric in metrics[:1]:
        parts.append(f"<h3>By case</h3>{case_table(scores, metric, comparison.settings.hounsfield)}")
    return "".join(parts)


def _distributions(source: Source, metrics: Sequence[str]) -> str:
    hounsfield = source.settings is not None and source.settings.hounsfield
    charts = []
    for metric in metrics:
        rows = {
            label: {name: float(v) for name, case in cases.items() if isinstance(v := case.get(metric), int | float)}
            for label, cases in source.scores.items()
            if cases
        }
        charts.append(distributions(label_of(metric, hounsfield), rows))
    text = "Box: 25 % to 75 % of the cases, with the median; line: smallest to largest; every point is a case."
    return f"<p>{text}</p><div class='charts'>{''.join(charts)}</div>"


def _present(scores: Mapping[str, Mapping[str, CaseRow]]) -> list[str]:
    present = {name for rows in scores.values() for row in rows.values() for name in row}
    return [name for name in METRIC_TEXTS if name in present]


def _versions(source: Source) -> str:
    versions = source.settings.versions if source.settings is not None else {}
    return f"<p>{_text(', '.join(f'{name} {version}' for name, version in versions.items()))}</p>" if versions else ""


def _section(identifier: str, title: str, content: str) -> str:
    heading = f"h-{identifier}"
    return f"<section id='{identifier}' aria-labelledby='{heading}'><h2 id='{heading}'>{title}</h2>{content}</section>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _text(value: object) -> str:
    return html.escape(str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
