"""The content of a page: scores, curves and volumes of an evaluation, a training or a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gdmunet.evaluation.comparison.paired import Comparison
from gdmunet.evaluation.report.cases import CasePaths
from gdmunet.evaluation.scores.dial_curve import DialCurve
from gdmunet.evaluation.scores.summary import CaseRow, EvaluationSpec, Summary
from gdmunet.evaluation.scores.summary_text import score_of
from gdmunet.metrics import Metric, metrics_in

# The one "trainer" of an evaluation or a training.
PREDICTION = "prediction"


@dataclass(frozen=True)
class ReportContent:
    """The content of a page.

    Attributes
    ----------
    kind
        Kind of the folder.
    scores
        Trainer (one, called ``prediction``, for an evaluation or a training) to identifier to row of scores.
    settings
        Settings of the scores; None for a training that was not validated yet.
    journal
        Rows of journal.jsonl.
    training
        Content of the trainer's settings.json.
    files
        The cases that have volumes.
    condition_name, target_name
        Modality words; empty if the data set is not known.
    comparable
        Whether the condition has the target's unit, so that window presets hold for it as well.
    origin
        Name to value: model, plans, data set, version and date, as far as they are known.
    dial
        Error over the dial for realism of a training; None if it has none.
    notes
        Texts about what could not be found, for people.
    """

    kind: Literal["evaluation", "training", "comparison"]
    folder: Path
    title: str
    scores: dict[str, dict[str, CaseRow]]
    settings: EvaluationSpec | None = None
    summary: Summary | None = None
    comparison: Comparison | None = None
    journal: tuple[dict[str, Any], ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    files: tuple[CasePaths, ...] = ()
    condition_name: str = ""
    target_name: str = ""
    comparable: bool = False
    origin: dict[str, str] = field(default_factory=dict)
    dial: DialCurve | None = None
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Unit of errors; empty where the target's is not known."""
        return "" if self.settings is None else self.settings.target_unit

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that some case was scored with."""
        return metrics_in({name for rows in self.scores.values() for row in rows.values() for name in row})

    @property
    def identifiers(self) -> tuple[str, ...]:
        """All cases that have a row, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for rows in self.scores.values() for name in rows))


def content_of_summary(summary: Summary, title: str) -> ReportContent:
    """The scores of an evaluation without its volumes."""
    folder = Path(summary.settings.prediction_folder)
    return ReportContent(
        "evaluation", folder, title, {PREDICTION: summary.cases}, settings=summary.settings, summary=summary
    )


def worst_and_best(content: ReportContent, metric: Metric) -> list[str]:
    """Identifiers with the worst case first, then the best, the second worst and so on; those without a score last.

    In a comparison the first trainer that has scores decides.
    """
    first: Mapping[str, CaseRow] = next((rows for rows in content.scores.values() if rows), {})
    values = {name: score_of(first.get(name, {}), metric) for name in content.identifiers}
    known = {name: metric.badness(value) for name, value in values.items() if value is not None}
    ordered = sorted(known, key=lambda name: -known[name])
    alternating = []
    while ordered:
        alternating.append(ordered.pop(0))
        if ordered:
            alternating.append(ordered.pop())
    return alternating + [name for name in content.identifiers if name not in known]
