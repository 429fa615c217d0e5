"""The page's sections as values for the templates: facts, scores, curves, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdmunet.evaluation.comparison.paired import Comparison
from gdmunet.evaluation.comparison.tables import explanation, main_metrics
from gdmunet.evaluation.report.charts import BoxChart, Curve, LineChart, curves, distributions
from gdmunet.evaluation.report.content import ReportContent
from gdmunet.evaluation.report.score_tables import (
    Table,
    case_table,
    difference_table,
    group_table,
    judgement_table,
    score_table,
    trainer_table,
)
from gdmunet.evaluation.scores.dial_curve import DialCurve
from gdmunet.evaluation.scores.summary import Summary
from gdmunet.evaluation.scores.summary_text import score_of
from gdmunet.metrics import METRICS, metrics_in

# Titles of the curves of journal.jsonl; a number that is not named here gets a chart by the first word of its key.
_CHARTS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("validation patches, body MAE", (("validation_mae", "MAE"), ("validation_mae_ema", "its moving average"))),
    ("learning rate", (("learning_rate", "learning rate"),)),
    ("gradient norm before clipping", (("gradient_norm", "norm"),)),
    ("seconds per epoch", (("seconds", "training"), ("validation_seconds", "validation"))),
    ("share of the time spent waiting for patches", (("wait_share", "share"),)),
    ("peak memory (MB)", (("peak_memory_mb", "memory"),)),
)
_NOT_DRAWN = ("epoch", "iteration", "unit", "seconds_left")


@dataclass(frozen=True)
class Tile:
    """One score in large letters."""

    label: str
    value: str
    spread: str


@dataclass(frozen=True)
class Part:
    """A heading (empty: none) with tables or a list below."""

    heading: str
    tables: tuple[Table, ...] = ()
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreSection:
    """The section of scores of an evaluation or of a comparison."""

    title: str
    introduction: str
    parts: tuple[Part, ...]


def facts_of(content: ReportContent) -> dict[str, str]:
    """Name to value, for the page's head."""
    facts = dict(content.origin)
    if content.settings is not None:
        facts["Scored"] = content.settings.describe()
        if content.settings.checkpoint:
            facts["Checkpoint"] = content.settings.checkpoint
    if content.condition_name:
        facts["Task"] = f"{content.condition_name} to {content.target_name}"
    if content.summary is not None:
        scored = len(content.summary.cases) - content.summary.failed
        failed = f", {content.summary.failed} without scores" if content.summary.failed else ""
        facts["Cases"] = f"{scored} scored{failed}"
    if content.journal:
        last = content.journal[-1]
        facts["Epochs"] = f"{last.get('epoch', 0) + 1}, {last.get('iteration', '?')} optimiser steps"
    return facts | {"Folder": str(content.folder)}


def tiles_of(content: ReportContent) -> list[Tile]:
    """The main scores of an evaluation."""
    summary = content.summary
    if summary is None:
        return []
    tiles = []
    for metric in metrics_in(summary.mean):
        if metric.main:
            mean, std = (metric.text(values[metric.name], content.unit) for values in (summary.mean, summary.std))
            spread = f" ± {std}" if summary.count[metric.name] > 1 else ""
            tiles.append(Tile(metric.head(content.unit), mean, spread))
    return tiles


def score_section(content: ReportContent) -> ScoreSection | None:
    """The scores of an evaluation or comparison; None where there are none."""
    if content.comparison is not None:
        return _comparison_section(content.comparison)
    return None if content.summary is None else _evaluation_section(content.summary)


def distribution_charts(content: ReportContent) -> list[BoxChart]:
    """Box plots of every metric that several cases have."""
    charts = []
    for metric in content.metrics:
        rows = {
            label: {name: value for name, row in cases.items() if (value := score_of(row, metric)) is not None}
            for label, cases in content.scores.items()
            if cases
        }
        if any(len(values) > 1 for values in rows.values()):
            charts.append(distributions(metric.head(content.unit), rows))
    return [chart for chart in charts if chart is not None]


def journal_charts(rows: Sequence[Mapping[str, Any]]) -> list[LineChart]:
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
    return [chart for chart in shown if chart is not None]


def dial_charts(curve: DialCurve | None) -> list[LineChart]:
    """Error, and distance if it was measured, over the dial for realism; nothing without a dial."""
    if curve is None:
        return []
    where = f"over the dial for realism, {curve.chosen:g} chosen"
    charts = [curves(f"validation MAE {where} ({curve.unit})", curve.realism, [Curve("MAE", curve.mae)], "realism")]
    if curve.frechet is not None:
        title = f"validation Frechet distance ({curve.encoder}) {where}"
        charts.append(curves(title, curve.realism, [Curve("Frechet distance", curve.frechet)], "realism"))
    return [chart for chart in charts if chart is not None]


def _evaluation_section(summary: Summary) -> ScoreSection:
    unit, metrics = summary.settings.target_unit, metrics_in(summary.metrics)
    parts = [Part("", (score_table(summary),))]
    for kind, groups in summary.groups.items():
        parts.append(Part(f"By {kind}", (group_table(kind, groups, metrics, unit),)))
    if summary.distributions:
        parts.append(Part("As distributions", (judgement_table(summary.distributions),)))
    if summary.errors:
        errors = tuple(f"{name}: {error}" for name, error in summary.errors.items())
        parts.append(Part("Without scores, not in the means", items=errors))
    notes = tuple(
        f"{name}, {METRICS[metric].label}: {reason}"
        for name, notes in summary.notes.items()
        for metric, reason in notes.items()
    )
    if notes:
        parts.append(Part("Notes", items=notes))
    return ScoreSection("Scores", "", tuple(parts))


def _comparison_section(comparison: Comparison) -> ScoreSection:
    unit, metrics = comparison.settings.target_unit, main_metrics(comparison)
    further = [metric for metric in metrics_in(comparison.metrics) if not metric.main]
    first = comparison.rows[0].trainer
    parts = [Part("", (trainer_table(comparison),))]
    if further:
        parts.append(Part("Further scores", (group_table("trainer", comparison.statistics, further, unit),)))
    failures = tuple(f"{row.trainer}: {row.failure}" for row in comparison.rows if row.failure)
    if failures:
        parts.append(Part("Failed", items=failures))
    if comparison.differences:
        parts.append(Part(f"Differences to {first}", (difference_table(comparison, metrics),)))
    for kind, groups in comparison.groups.items():
        for group, by_trainer in groups.items():
            tables = [group_table("trainer", by_trainer, metrics, unit)]
            if comparison.differences:
                tables.append(difference_table(comparison, metrics, kind, group))
            parts.append(Part(f"{kind}: {group}", tuple(tables)))
    scores = {row.trainer: row.cases for row in comparison.rows if row.cases}
    if metrics:
        parts.append(Part("By case", (case_table(scores, metrics[0], unit),)))
    return ScoreSection("Comparison", explanation(comparison), tuple(parts))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
