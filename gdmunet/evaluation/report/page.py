"""The page: one HTML file that needs nothing else, neither a network nor files beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gdmunet.atomic import write_text
from gdmunet.errors import GdmError
from gdmunet.evaluation.report.cases import CasePaths, embedded_volumes, load_case, slices_of
from gdmunet.evaluation.report.content import ReportContent, content_of_summary, worst_and_best
from gdmunet.evaluation.report.encoding import pack_bytes
from gdmunet.evaluation.report.score_tables import case_line
from gdmunet.evaluation.report.sections import (
    dial_charts,
    distribution_charts,
    facts_of,
    journal_charts,
    score_section,
    tiles_of,
)
from gdmunet.evaluation.scores.summary import CaseRow, Summary
from gdmunet.evaluation.scores.summary_text import score_of
from gdmunet.metrics import DECIDING, Metric, metric_of_cases
from gdmunet.quantities import memory_size
from gdmunet.version import __version__
from gdmunet.workers import check_processes, run_in_workers

VIEWER = "niivue.umd.js"


@dataclass(frozen=True)
class PageOptions:
    """Order of the cases on a page, and its size.

    Attributes
    ----------
    metric
        Name of the metric that decides which cases are the worst and the best.
    megabytes
        Largest size of the file, 1e6 bytes; pictures that do not fit are left out, and the page names their cases.
    pictures
        Largest number of cases with slices, worst and best ones first.
    volumes
        Largest number of cases with coarse volumes for the viewer, worst and best ones first.
    processes
        Worker processes that read volumes.

    Raises
    ------
    GdmError
        Unknown metric, or a number that is too small.
    """

    metric: str = DECIDING
    megabytes: float = 60.0
    pictures: int = 100
    volumes: int = 4
    processes: int = 1
    show_progress: bool = True

    def __post_init__(self) -> None:
        metric_of_cases(self.metric)
        check_processes(self.processes)
        if self.megabytes <= 0 or min(self.pictures, self.volumes) < 0:
            raise GdmError(
                "a page needs room",
                found=f"{self.megabytes:g} MB, {self.pictures} pictures, {self.volumes} volumes",
                expected="more than 0 MB, 0 or more pictures and volumes",
                remedy="give more megabytes, and no negative number of pictures or volumes",
            )


@dataclass(frozen=True)
class WrittenPage:
    """Size in bytes, and the numbers of cases with scores, slices and volumes."""

    file: Path
    size: int
    cases: int
    pictures: int
    volumes: int


@dataclass(frozen=True)
class Embedded:
    """The page's data of the cases: name to JSON text, or to the problem."""

    slices: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def write_page(content: ReportContent, file: Path, options: PageOptions | None = None) -> WrittenPage:
    """Write the page of an evaluation, a training or a comparison.

    Raises
    ------
    GdmError
        The page without any picture is larger than it may be.
    """
    options = options or PageOptions()
    metric = metric_of_cases(options.metric)
    order = worst_and_best(content, metric)
    bare = len(page_text(content, metric).encode())
    viewer = len(pack_bytes(asset(VIEWER).encode())) if content.files and options.volumes else 0
    room = int(options.megabytes * 1e6) - bare - viewer
    if room < 0:
        raise GdmError(
            "the page cannot be so small",
            found=f"{memory_size(bare + viewer)} without any picture",
            expected=f"at most {options.megabytes:g} MB",
            remedy="allow a larger page",
        )
    embedded = _embed(content, order, options, room)
    text = page_text(content, metric, embedded)
    write_text(file, text)
    return WrittenPage(Path(file), len(text.encode()), len(order), len(embedded.slices), len(embedded.volumes))


def write_scores_page(summary: Summary, file: Path, title: str = "Evaluation") -> None:
    """Write the page of an evaluation without pictures."""
    write_text(file, page_text(content_of_summary(summary, title), metric_of_cases(DECIDING)))


def page_text(content: ReportContent, metric: Metric, embedded: Embedded | None = None, server: bool = False) -> str:
    """The HTML text of the page.

    Parameters
    ----------
    metric
        Name of the metric that decides which cases are the worst and the best.
    embedded
        Pictures that are part of the page.
    server
        Whether pictures, volumes and the viewer's code come from ``gdm_view``.
    """
    embedded = embedded or Embedded()
    code = [asset("report.js"), asset("viewer.js")]
    environment = Environment(
        loader=PackageLoader("gdmunet.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    versions = content.settings.versions if content.settings is not None else {}
    return environment.get_template("page.html").render(
        content=content,
        policy=_policy(code),
        style=Markup(asset("report.css")),
        facts=facts_of(content),
        tiles=tiles_of(content),
        curves=[*dial_charts(content.dial), *(journal_charts(content.journal) if content.journal else [])],
        scores=score_section(content),
        metrics=content.metrics,
        distributions=distribution_charts(content),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        version=__version__,
        data=_data_scripts(content, metric, embedded, server),
        viewer=pack_bytes(asset(VIEWER).encode()) if embedded.volumes else "",
        licence=asset("niivue.LICENSE.txt"),
        code=[Markup(text) for text in code],
    )


def page_data(content: ReportContent, metric: Metric, embedded: Embedded, server: bool) -> dict[str, Any]:
    """Data for the page's code; cases in the order worst, best, second worst, ..."""
    files = {files.identifier: files for files in content.files}
    rows = {
        name: {label: rows[name] for label, rows in content.scores.items() if name in rows}
        for name in content.identifiers
    }
    return {
        "server": server,
        "unit": content.unit,
        "labels": [label for label, rows in content.scores.items() if rows],
        "condition": content.condition_name,
        "target": content.target_name,
        "comparable": content.comparable,
        "order": metric.head(content.unit),
        "cases": [
            {
                "name": name,
                "numbers": {label: case_line(row, metric, content.unit) for label, row in rows[name].items()},
                "badness": _badness(rows[name], metric),
                "slices": name in embedded.slices or (server and name in files),
                "volumes": name in embedded.volumes or (server and name in files),
                "problem": embedded.problems.get(name),
            }
            for name in worst_and_best(content, metric)
        ],
    }


def asset(name: str) -> str:
    """Text of a file of ``assets/``."""
    return resources.files("gdmunet.evaluation.report").joinpath("assets", name).read_text(encoding="utf-8")


def show_case(files: CasePaths, with_volumes: bool) -> tuple[str, str]:
    """Slices and, where wanted, coarse volumes of one case as JSON; a problem becomes ``{"problem": text}``."""
    try:
        case = load_case(files)
        return json.dumps(slices_of(case)), json.dumps(embedded_volumes(case)) if with_volumes else ""
    except GdmError as error:
        return json.dumps({"problem": error.one_line()}), ""


def _embed(content: ReportContent, order: Sequence[str], options: PageOptions, room: int) -> Embedded:
    files = {files.identifier: files for files in content.files}
    chosen = [name for name in order if name in files][: options.pictures]
    items = [(name, (files[name], number < options.volumes)) for number, name in enumerate(chosen)]
    shown = run_in_workers(show_case, items, options.processes, options.show_progress, "cutting slices")
    embedded = Embedded()
    for name, (slices, _) in zip(chosen, shown, strict=True):
        problem = json.loads(slices).get("problem") if slices.startswith('{"problem"') else None
        if problem:
            embedded.problems[name] = problem
        elif len(slices) <= room:
            embedded.slices[name] = slices
            room -= len(slices)
    # Slices of every case come before volumes of some.
    for name, (_, volumes) in zip(chosen, shown, strict=True):
        if volumes and name in embedded.slices and len(volumes) <= room:
            embedded.volumes[name] = volumes
            room -= len(volumes)
    return embedded


def _policy(code: Sequence[str]) -> str:
    """The browser itself refuses every other address; blob: is the viewer's code, unpacked from this file."""
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in code)
    return (
        f"default-src 'none'; script-src {digests} blob: 'self'; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; worker-src blob:; connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'"
    )


def _data_scripts(content: ReportContent, metric: Metric, embedded: Embedded, server: bool) -> list[tuple[str, Markup]]:
    """Identifier and JSON text of every data element."""
    numbers = {name: number for number, name in enumerate(worst_and_best(content, metric))}
    texts = [("report-data", json.dumps(page_data(content, metric, embedded, server)))]
    texts += [(f"slices-{numbers[name]}", text) for name, text in embedded.slices.items()]
    texts += [(f"volumes-{numbers[name]}", text) for name, text in embedded.volumes.items()]
    # Without "<" no name of a case can end the script element.
    return [(identifier, Markup(text.replace("<", "\\u003c"))) for identifier, text in texts]


def _badness(rows: dict[str, CaseRow], metric: Metric) -> dict[str, float]:
    """Trainer to a number by which its cases are ordered; the largest is the worst."""
    values = {label: score_of(row, metric) for label, row in rows.items()}
    return {label: metric.badness(value) for label, value in values.items() if value is not None}
