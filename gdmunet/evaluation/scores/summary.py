"""Results of an evaluation: scores by case, statistics over all cases and by group, and the settings."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.distributions.resampling import BootstrapSpec, bootstrap_interval
from gdmunet.formats import FileFormat
from gdmunet.metrics import METRICS, ImageScores, OwnMetricSpec, ValueRange, metrics_in
from gdmunet.provenance import UNKNOWN, ProvenanceSpec
from gdmunet.serialization import load_json, save_json
from gdmunet.version import __version__


def upgrade_1_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """Several encoders may judge; before, one did or none."""
    upgraded = {key: value for key, value in content.items() if key != "distribution"}
    judged = content.get("distribution")
    return {**upgraded, "distributions": [] if judged is None else [judged]}


def upgrade_2_to_3(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 keeps doubts about volumes and names, and hashes of what made the predictions; earlier ones did not."""
    settings = content.get("settings")
    known = {"settings": settings | {"provenance": {}}} if isinstance(settings, dict) else {}
    return {**content, "warnings": [], **known}


SUMMARY_FORMAT = FileFormat("summary", (upgrade_1_to_2, upgrade_2_to_3))

# One row of summary.json: metric to value (None: no finite value), or the key "error" with a text.
CaseRow = dict[str, float | str | None]


@dataclass(frozen=True)
class EvaluationSpec:
    """Settings of the scores.

    Attributes
    ----------
    range
        ``2025`` or ``2023`` (HU, as in SynthRAD of that year), ``given`` (low and high by the user), or ``reference``
        (every case on the smallest and largest value of its own reference in the mask).
    value_range
        The range in the target's unit; None if every case has its own.
    case_ranges
        Identifier to range, for ``reference`` only.
    hounsfield
        True where the values are Hounsfield units, so that air, soft tissue and bone are scored.
    mask
        ``given``: scored inside the masks of `mask_folder`. ``none``: over the whole volume.
    fov_folder
        Folder of field-of-view masks; scores were taken inside body and field of view. None: inside the body.
    label_folders
        Label maps of references and predictions that Dice and HD95 come from; None: neither was scored.
    checkpoint
        Weights that made the predictions (``best``, ``final``), if the evaluation is a training's validation.
    provenance
        Hashes of what these weights were made from.
    versions
        Package to version.
    own_metrics
        Rows of the user's metrics, which every table then knows.
    """

    range: Literal["2023", "2025", "given", "reference"]
    value_range: ValueRange | None
    hounsfield: bool
    mask: Literal["given", "none"]
    reference_folder: str = ""
    prediction_folder: str = ""
    mask_folder: str | None = None
    fov_folder: str | None = None
    label_folders: tuple[str, str] | None = None
    checkpoint: str | None = None
    provenance: ProvenanceSpec = UNKNOWN
    case_ranges: dict[str, ValueRange] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    own_metrics: tuple[OwnMetricSpec, ...] = ()

    @property
    def target_unit(self) -> str:
        """``HU``; empty if the unit of the target is not known."""
        return "HU" if self.hounsfield else ""

    def describe(self) -> str:
        """One line for people: range and mask."""
        if self.value_range is None:
            values = "each case's own reference range (minimum to maximum in the mask)"
        else:
            low, high = self.value_range.low, self.value_range.high
            values = f"{f'{low:g} to {high:g} {self.target_unit}'.rstrip()}, dynamic range {high - low:g}"
        name = f"{self.range}: " if self.range in ("2023", "2025") else ""
        places = [f"masks of {self.mask_folder}"] if self.mask == "given" else []
        places += [f"fields of view of {self.fov_folder}"] if self.fov_folder else []
        mask = " and ".join(places) or "no mask, the whole volume"
        return f"range {name}{values}; {mask}"


@dataclass(frozen=True)
class Statistics:
    """Statistics over cases, by metric. A case without a finite value is left out of its metric and of its count.

    Attributes
    ----------
    std
        Population standard deviation.
    quartiles
        25 % and 75 % quantiles.
    count
        Cases that have a finite value; always read it beside the mean.
    interval
        95 % bootstrap interval of the mean over cases, for two cases and more; empty in files of before.
    """

    mean: dict[str, float]
    std: dict[str, float]
    median: dict[str, float]
    quartiles: dict[str, tuple[float, float]]
    min: dict[str, float]
    max: dict[str, float]
    count: dict[str, int]
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def of_one_case(self) -> bool:
        """Whether they are the values of a single case, of which a mean and a spread say nothing."""
        return max(self.count.values(), default=0) == 1


@dataclass(frozen=True)
class Summary:
    """The content of summary.json.

    Attributes
    ----------
    cases
        Identifier to metric to value, or to ``{"error": text}``. A metric without a finite value (the PSNR of
        identical images is infinite) is None, null in JSON, and has its reason in `notes`.
    mean, std, median, quartiles, min, max, count, interval
        Over all scored cases, as in `Statistics`.
    failed
        Number of cases that have an error in place of scores.
    groups
        Kind of group (such as ``region``) to group to statistics.
    notes
        Identifier to metric to the reason why it has no value.
    distributions
        All predictions against all references in the features of encoders; empty: not asked for.
    warnings
        Lines about volumes and names that may not be what they claim to be.
    """

    cases: dict[str, CaseRow]
    mean: dict[str, float]
    std: dict[str, float]
    median: dict[str, float]
    quartiles: dict[str, tuple[float, float]]
    min: dict[str, float]
    max: dict[str, float]
    count: dict[str, int]
    failed: int
    groups: dict[str, dict[str, Statistics]]
    notes: dict[str, dict[str, str]]
    settings: EvaluationSpec
    distributions: tuple[Judgement, ...] = ()
    warnings: tuple[str, ...] = ()
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    version: int = SUMMARY_FORMAT.version

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that some case was scored with, in the order of tables."""
        return tuple(metric.name for metric in metrics_in({name for row in self.cases.values() for name in row}))

    @property
    def statistics(self) -> Statistics:
        """Statistics over all scored cases."""
        return Statistics(
            self.mean, self.std, self.median, self.quartiles, self.min, self.max, self.count, self.interval
        )

    @property
    def errors(self) -> dict[str, str]:
        """Identifier to error, for the cases without scores."""
        return {name: str(row["error"]) for name, row in self.cases.items() if "error" in row}


def summarize(
    results: Mapping[str, ImageScores | str],
    settings: EvaluationSpec,
    groups: Mapping[str, Mapping[str, str]] | None = None,
) -> Summary:
    """Put the cases' scores together.

    Parameters
    ----------
    results
        Identifier to its scores, or to the text of the error that it met.
    settings
        Settings of the scores.
    groups
        Identifier to kind of group to group, such as ``{"case_1": {"region": "thorax"}}``.

    Raises
    ------
    GdmError
        No case has scores: there is nothing to put together.
    """
    scored = {name: result for name, result in results.items() if isinstance(result, ImageScores)}
    if not scored:
        first = next(iter(results.items()), ("", "no case at all"))
        raise GdmError(
            "no case could be scored", case=first[0] or None, found=first[1], remedy="mend this case, or leave it out"
        )
    cases: dict[str, CaseRow] = {}
    for name in sorted(results):
        result = results[name]
        cases[name] = dict(result.values) if isinstance(result, ImageScores) else {"error": result}
    return Summary(
        cases=cases,
        **vars(statistics(scored)),
        failed=len(results) - len(scored),
        groups=_by_group(scored, groups or {}),
        notes={name: dict(scored[name].notes) for name in sorted(scored) if scored[name].notes},
        settings=settings,
    )


def statistics(scored: Mapping[str, ImageScores]) -> Statistics:
    """Statistics of every metric over the cases that have a finite value of it."""
    by_metric: dict[str, list[float]] = {name: [] for name in METRICS}
    for scores in scored.values():
        for name, value in scores.values.items():
            if value is not None:
                by_metric[name].append(value)
    arrays = {name: np.asarray(values) for name, values in by_metric.items() if values}
    seen = [name for name in METRICS if any(name in scores.values for scores in scored.values())]
    return Statistics(
        mean={name: float(values.mean()) for name, values in arrays.items()},
        std={name: float(values.std()) for name, values in arrays.items()},
        median={name: float(np.median(values)) for name, values in arrays.items()},
        quartiles={
            name: (float(np.quantile(values, 0.25)), float(np.quantile(values, 0.75)))
            for name, values in arrays.items()
        },
        min={name: float(values.min()) for name, values in arrays.items()},
        max={name: float(values.max()) for name, values in arrays.items()},
        count={name: len(by_metric[name]) for name in seen},
        interval={
            name: bootstrap_interval(values, BootstrapSpec()) for name, values in arrays.items() if len(values) > 1
        },
    )


def save_summary(summary: Summary, file: Path) -> None:
    """Write summary.json (its name is the caller's choice) atomically."""
    save_json(summary, file)


def load_summary(file: Path) -> Summary:
    """Read what `save_summary` wrote; every key and type is checked."""
    return load_json(Summary, file, "summary", SUMMARY_FORMAT)


def package_versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on."""
    return {"gdmunet": __version__} | {name: importlib.metadata.version(name) for name in ("numpy", "scipy")}


def _by_group(
    scored: Mapping[str, ImageScores], groups: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, Statistics]]:
    members: dict[str, dict[str, dict[str, ImageScores]]] = {}
    for name, scores in scored.items():
        for kind, group in groups.get(name, {}).items():
            members.setdefault(kind, {}).setdefault(group, {})[name] = scores
    return {
        kind: {group: statistics(members[kind][group]) for group in sorted(members[kind])} for kind in sorted(members)
    }
