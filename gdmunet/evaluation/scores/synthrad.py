"""The table of the SynthRAD challenges: mean and standard deviation by region and over all cases.

Scores are the evaluator's own (SynthRAD2025/evaluation, SynthRAD2023/metrics), taken inside the body mask on the year's
range. Its dose metrics (dose MAE, DVH error, gamma pass rate) need treatment plans and are out of scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.summary import Statistics, Summary
from gdmunet.evaluation.scores.summary_text import aligned
from gdmunet.metrics import METRICS, EvaluationRange, Metric
from gdmunet.quantities import counted

_TRUNK = (2, 3, 5, 6, *range(10, 15), *range(26, 52), 79, *range(92, 117))
# Region to the labels of TotalSegmentator's version 2 that SynthRAD2025 scores: in the trunk kidneys, liver, stomach,
# lungs, vertebrae, heart, spinal cord, ribs and sternum; in head and neck oesophagus, trachea, thyroid, vertebrae,
# spinal cord, brain and skull.
STRUCTURES: dict[str, tuple[int, ...]] = {
    "AB": _TRUNK,
    "TH": _TRUNK,
    "HN": (15, 16, 17, *range(26, 51), 79, 90, 91),
}


def challenge_structures(groups: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[int, ...]]:
    """Case to the labels that the challenge scores in its region; brain and pelvis (2023) have none of their own.

    Raises
    ------
    GdmError
        Names the cases that have no region.
    """
    without = [name for name, kinds in groups.items() if "region" not in kinds]
    if without:
        raise GdmError(
            f"{len(without)} of {counted(groups, 'case')} have no region",
            case=without[0],
            found=", ".join(without[:10]) + (" ..." if len(without) > 10 else ""),
            expected="identifiers of SynthRAD (1ABA005), or the group region for every case",
            remedy="give the data set with -d, or a table of groups with --groups",
        )
    return {name: STRUCTURES[kinds["region"]] for name, kinds in groups.items() if kinds["region"] in STRUCTURES}


def challenge_year(groups: Mapping[str, Mapping[str, str]]) -> EvaluationRange:
    """2023 where every region is brain or pelvis, else 2025."""
    regions = {kinds.get("region") for kinds in groups.values()}
    return "2023" if regions and regions <= {"brain", "pelvis"} else "2025"


def check_challenge(*, mask: bool, fov: bool, data_range: bool) -> None:
    """Refuse settings under which the scores are not the challenge's."""
    if not mask or fov or data_range:
        wrong = ["no mask"] * (not mask) + ["a field of view"] * fov + ["a range of its own"] * data_range
        raise GdmError(
            "these scores are not the challenge's",
            found=", ".join(wrong),
            expected="the range of 2025 or 2023, inside the body masks alone",
            remedy="give the masks with --mask, and neither --data_range nor --fov",
        )


def challenge_table(summary: Summary) -> str:
    """The challenge's table of a summary whose cases have the group ``region``.

    Raises
    ------
    GdmError
        Another range than a challenge's, no body mask or a further mask.
    """
    settings = summary.settings
    scored = [metric for metric in METRICS.values() if settings.range in metric.years]
    check_challenge(mask=settings.mask == "given", fov=bool(settings.fov_folder), data_range=not scored)
    metrics = [metric for metric in scored if metric.name in summary.count]
    unit = settings.target_unit
    rows = [["region", "cases", *(metric.head(unit) for metric in metrics)]]
    for region, statistics in summary.groups.get("region", {}).items():
        rows.append([region, *_cells(statistics, metrics, unit)])
    rows.append(["all", *_cells(summary.statistics, metrics, unit)])
    lines = [f"SynthRAD{settings.range}: mean ± standard deviation over cases; {settings.describe()}", *aligned(rows)]
    lines.append("Out of scope: the challenge's dose metrics" + _without_label_maps(scored, metrics))
    if summary.failed:
        lines.append(f"{summary.failed} of {counted(summary.cases, 'case')} have no scores and are not in the means:")
        lines += [f"  {name}: {error}" for name, error in summary.errors.items()]
    shown = {metric.name for metric in metrics}
    lines += [
        f"note: {name}: {METRICS[metric].label} {reason}"
        for name, notes in summary.notes.items()
        for metric, reason in notes.items()
        if metric in shown
    ]
    return "\n".join(lines)


def _cells(statistics: Statistics, metrics: Sequence[Metric], unit: str) -> list[str]:
    """Number of cases, then the scores; a score that some cases lack comes with its number of cases."""
    cases = max(statistics.count.values(), default=0)
    cells = [str(cases)]
    for metric in metrics:
        count = statistics.count.get(metric.name, 0)
        mean, std = (metric.text(values.get(metric.name), unit) for values in (statistics.mean, statistics.std))
        text = f"{mean} ± {std}" if count else "-"
        cells.append(text if count in (0, cases) else f"{text} (of {count})")
    return cells


def _without_label_maps(scored: Sequence[Metric], shown: Sequence[Metric]) -> str:
    missing = [metric.label for metric in scored if metric.basis == "label maps" and metric not in shown]
    return (
        f"; {' and '.join(missing)} need label maps (--segment, or --labels_ref and --labels_pred)" if missing else ""
    )
