"""Results of a comparison of trainers: scores by case, costs, failures and paired differences to the first trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.distributions.resampling import BootstrapSpec, bootstrap_interval
from gdmunet.evaluation.scores.summary import CaseRow, EvaluationSpec, Statistics, Summary, statistics
from gdmunet.formats import FileFormat
from gdmunet.metrics import METRICS, ImageScores, metrics_in
from gdmunet.serialization import load_json, save_json


@dataclass(frozen=True)
class Cost:
    """Cost of a prediction; None where it was not measured.

    Attributes
    ----------
    network_passes
        Passes of the network for one window: 1 for one-step trainers.
    seconds, peak_memory_mb
        Time and peak memory (1e6 bytes) of predicting one volume, mean over the volumes.
    training_seconds
        Time of the whole training, all folds together.
    parameters
        Weights that the prediction uses.
    """

    network_passes: float | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    training_seconds: float | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class TrainerRow:
    """One trainer of a comparison.

    Attributes
    ----------
    trainer
        Its name, unique in the comparison.
    cases
        Identifier to metric to value, or to ``{"error": text}``, as in `Summary.cases`; empty where the run failed.
    judgements
        Distances between the sets of predicted and target volumes, one entry for each encoder.
    failure
        Why there are no scores; None where there are some.
    prediction_folder
        Folder of the predicted volumes, for the report's pictures.
    """

    trainer: str
    cases: dict[str, CaseRow] = field(default_factory=dict)
    judgements: tuple[Judgement, ...] = ()
    cost: Cost = Cost()
    failure: str | None = None
    prediction_folder: str | None = None

    def judgement(self, encoder: str) -> Judgement | None:
        """The distances in the features of `encoder`; None: it did not judge this trainer."""
        return next((one for one in self.judgements if one.encoder == encoder), None)


@dataclass(frozen=True)
class PairedDifference:
    """Difference of one trainer from the first one in one metric, on the cases that both have a value for.

    Attributes
    ----------
    kind, group
        The group of cases, such as ``region`` and ``thorax``; both None: all cases.
    cases
        Number of pairs.
    mean
        Mean of (this trainer - first trainer), in the metric's unit.
    interval
        Percentile bootstrap interval of that mean over cases; None for fewer than two pairs.
    p_value
        Two-sided Wilcoxon signed-rank test, not corrected for the number of tests; None for fewer than two pairs.
    better
        Pairs in which this trainer is the better one, by `Metric.best`.
    """

    trainer: str
    metric: str
    kind: str | None
    group: str | None
    cases: int
    mean: float
    interval: tuple[float, float] | None
    p_value: float | None
    better: int


def upgrade_1_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """Distances by encoder; before, ``{"Frechet (mini)": 0.1, "MMD (mini)": 0.2}``."""
    keys = {"Frechet": "frechet", "MMD": "mmd"}

    def upgraded(row: dict[str, Any]) -> dict[str, Any]:
        judgements: dict[str, dict[str, Any]] = {}
        for name, value in row.get("distances", {}).items():
            label, _, encoder = name.partition(" (")
            judgements.setdefault(encoder[:-1], {"sha256": "", "frechet": 0.0, "mmd": 0.0})[keys[label]] = value
        kept = {key: value for key, value in row.items() if key != "distances"}
        return {**kept, "judgements": [{"encoder": name, **rest} for name, rest in judgements.items()]}

    return {**content, "rows": [upgraded(row) for row in content["rows"]]}


COMPARISON_FORMAT = FileFormat("comparison", (upgrade_1_to_2,))


@dataclass(frozen=True)
class Comparison:
    """The content of comparison.json.

    Attributes
    ----------
    title
        Subject of the comparison, for people: data set, configuration, folds.
    rows
        The trainers; differences are taken to the first of them.
    statistics
        Trainer to its statistics over all of its scored cases; a failed trainer has none.
    groups
        Kind of group to group to trainer to statistics.
    differences
        Differences of every further trainer in every metric, over all cases and by group.
    settings
        Settings of the scores, the same for every trainer.
    """

    title: str
    rows: tuple[TrainerRow, ...]
    statistics: dict[str, Statistics]
    groups: dict[str, dict[str, dict[str, Statistics]]]
    differences: tuple[PairedDifference, ...]
    settings: EvaluationSpec
    resampling: BootstrapSpec = field(default_factory=BootstrapSpec)
    version: int = COMPARISON_FORMAT.version

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that some case was scored with, in the order of tables."""
        return _metrics(self.rows)

    @property
    def judges(self) -> tuple[str, ...]:
        """Encoders that judged some trainer, in the order of their first appearance."""
        return tuple(dict.fromkeys(judgement.encoder for row in self.rows for judgement in row.judgements))


def row_from_summary(trainer: str, summary: Summary, cost: Cost | None = None) -> TrainerRow:
    """The row of a trainer whose predictions were evaluated."""
    folder = summary.settings.prediction_folder or None
    return TrainerRow(trainer, summary.cases, summary.distributions, cost or Cost(), None, folder)


def compare(
    rows: Sequence[TrainerRow],
    settings: EvaluationSpec,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    *,
    title: str = "",
    resampling: BootstrapSpec | None = None,
) -> Comparison:
    """Put trainers side by side; the others are compared with the first row.

    Parameters
    ----------
    rows
        Rows, one for each trainer, failed ones as well.
    settings
        Settings of all scores; the folder of predictions is each row's own and is dropped here.
    groups
        Identifier to kind of group to group, such as ``{"case_1": {"region": "thorax"}}``.

    Raises
    ------
    GdmError
        No row, or two of one name.
    """
    names = [row.trainer for row in rows]
    if not names or len(set(names)) < len(names):
        raise GdmError(
            "a comparison needs trainers of different names",
            found=", ".join(names) or "none",
            remedy="name each trainer once",
        )
    members = _members(groups or {})
    resampling = resampling or BootstrapSpec()
    by_group: dict[str, dict[str, dict[str, Statistics]]] = {}
    for kind, group, cases in members:
        by_group.setdefault(kind, {})[group] = _statistics(rows, cases)
    return Comparison(
        title=title,
        rows=tuple(rows),
        statistics=_statistics(rows, None),
        groups=by_group,
        differences=tuple(_differences(rows, members, resampling)),
        settings=replace(settings, prediction_folder=""),
        resampling=resampling,
    )


def signed_rank_p_value(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 where no pair differs (the test itself is undefined there)."""
    if not np.any(differences):
        return 1.0
    return float(scipy.stats.wilcoxon(differences).pvalue)


def save_comparison(comparison: Comparison, file: Path) -> None:
    """Write comparison.json atomically."""
    save_json(comparison, file)


def load_comparison(file: Path) -> Comparison:
    """Read what `save_comparison` wrote; every key and type is checked."""
    return load_json(Comparison, file, "comparison", COMPARISON_FORMAT)


def _metrics(rows: Sequence[TrainerRow]) -> tuple[str, ...]:
    present = {name for row in rows for case in row.cases.values() for name in case}
    return tuple(metric.name for metric in metrics_in(present))


def _members(groups: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str, frozenset[str]]]:
    """(kind, group, its cases), sorted."""
    cases_of_groups: dict[tuple[str, str], set[str]] = {}
    for case, kinds in groups.items():
        for kind, group in kinds.items():
            cases_of_groups.setdefault((kind, group), set()).add(case)
    return [(kind, group, frozenset(cases)) for (kind, group), cases in sorted(cases_of_groups.items())]


def _statistics(rows: Sequence[TrainerRow], cases: frozenset[str] | None) -> dict[str, Statistics]:
    by_trainer = {}
    for row in rows:
        scored = {
            name: ImageScores({key: value for key, value in case.items() if not isinstance(value, str)})
            for name, case in row.cases.items()
            if "error" not in case and (cases is None or name in cases)
        }
        if scored:
            by_trainer[row.trainer] = statistics(scored)
    return by_trainer


def _differences(
    rows: Sequence[TrainerRow], members: Sequence[tuple[str, str, frozenset[str]]], resampling: BootstrapSpec
) -> Iterator[PairedDifference]:
    for row in rows[1:]:
        for metric in _metrics(rows):
            for kind, group, cases in [(None, None, None), *members]:
                difference = _paired(rows[0], row, metric, cases, resampling)
                if difference is not None:
                    yield replace(difference, kind=kind, group=group)


def _paired(
    first: TrainerRow, row: TrainerRow, metric: str, cases: frozenset[str] | None, resampling: BootstrapSpec
) -> PairedDifference | None:
    pairs = [
        (before, after)
        for name, case in row.cases.items()
        if (cases is None or name in cases)
        and isinstance(after := case.get(metric), int | float)
        and isinstance(before := first.cases.get(name, {}).get(metric), int | float)
    ]
    if not pairs:
        return None
    before, after = np.asarray(pairs, dtype=np.float64).T
    differences = after - before
    enough = len(differences) > 1
    return PairedDifference(
        row.trainer,
        metric,
        None,
        None,
        len(differences),
        float(differences.mean()),
        bootstrap_interval(differences, resampling) if enough else None,
        signed_rank_p_value(differences) if enough else None,
        sum(METRICS[metric].badness(now) < METRICS[metric].badness(then) for then, now in pairs),
    )
