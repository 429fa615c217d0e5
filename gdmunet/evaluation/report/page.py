"""The page: one HTML file that needs nothing else, neither a network nor files beside it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from gdmunet import __version__
from gdmunet.atomic import write_text
from gdmunet.errors import GdmError
from gdmunet.evaluation.comparison.tables import label_of
from gdmunet.evaluation.report.cases import CaseFiles, embedded_volumes, load_case, slices_of
from gdmunet.evaluation.report.encoding import pack_bytes
from gdmunet.evaluation.report.sections import sections_of
from gdmunet.evaluation.report.sources import Source, worst_and_best
from gdmunet.metrics import HIGHER_IS_BETTER, METRIC_TEXTS
from gdmunet.workers import run_in_workers

VIEWER = "niivue.umd.js"


@dataclass(frozen=True)
class PageLimits:
    """How much a page may hold.

    Attributes
    ----------
    megabytes
        Largest size of the file, 1e6 bytes; pictures that do not fit are left out, and the page says of which cases.
    pictures
        Most cases with slices, worst and best ones first.
    volumes
        Most cases with coarse volumes for the viewer, worst and best ones first.
    """

    megabytes: float = 60.0
    pictures: int = 100
    volumes: int = 4


@dataclass(frozen=True)
class WrittenPage:
    """Size in bytes, and of how many cases there are scores, slices and volumes."""

    file: Path
    size: int
    cases: int
    pictures: int
    volumes: int


@dataclass(frozen=True)
class Embedded:
    """What the page holds of the cases: name to JSON text, or to what went wrong."""

    slices: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def write_page(
    source: Source,
    file: Path,
    *,
    metric: str = "mae",
    limits: PageLimits | None = None,
    processes: int = 1,
    show_progress: bool = True,
) -> WrittenPage:
    """Write the page of a source.

    Parameters
    ----------
    metric
        Decides which cases are the worst and the best.
    processes
        Worker processes that read volumes.
    """
    limits = limits or PageLimits()
    order = worst_and_best(source, metric)
    bare = len(page_text(source, metric).encode())
    viewer = len(pack_bytes(asset(VIEWER).encode())) if source.files and limits.volumes else 0
    room = int(limits.megabytes * 1e6) - bare - viewer
    if room < 0:
        raise GdmError(
            "the page cannot be so small",
            found=f"{(bare + viewer) / 1e6:.2f} MB without any picture",
            expected=f"at most {limits.megabytes:g} MB",
            remedy="allow a larger page",
        )
    embedded = _embed(source, order, limits, room, processes, show_progress)
    text = page_text(source, metric, embedded)
    write_text(file, text)
    return WrittenPage(Path(file), len(text.encode()), len(order), len(embedded.slices), len(embedded.volumes))


def page_text(source: Source, metric: str, embedded: Embedded | None = None, server: bool = False) -> str:
    """The HTML text of the page.

    Parameters
    ----------
    embedded
        Pictures that are part of the page.
    server
        True: pictures, volumes and the viewer's code come from ``gdm_view``.
    """
    embedded = embedded or Embedded()
    code = [asset("report.js"), asset("viewer.js")]
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in code)
    # The browser itself refuses whatever would go elsewhere; blob: is the viewer's code, unpacked from this file.
    policy = (
        f"default-src 'none'; script-src {digests} blob: 'self'; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; worker-src blob:; connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'"
    )
    title = html.escape(f"{source.title} · {source.kind}")
    parts = [
        "<!doctype html>",
        "<html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "<meta name='viewport' content='width=device-width, initial-scale=1'><meta name='color-scheme' "
        f"content='light dark'><title>{title}</title><style>{asset('report.css')}</style></head><body>",
        sections_of(source),
        f"<footer><p>Written by gdmunet {html.escape(__version__)}.</p></footer>",
        _json_script("report-data", json.dumps(page_data(source, metric, embedded, server))),
    ]
    numbers = {name: number for number, name in enumerate(worst_and_best(source, metric))}
    parts += [_json_script(f"slices-{numbers[name]}", text) for name, text in embedded.slices.items()]
    parts += [_json_script(f"volumes-{numbers[name]}", text) for name, text in embedded.volumes.items()]
    if embedded.volumes:
        # The licence must go with the code.
        notice = html.escape(asset("niivue.LICENSE.txt"))
        parts.append(f"<details class='licence'><summary>Licences of the viewer</summary><pre>{notice}</pre></details>")
        parts.append(f"<script type='text/plain' id='niivue-code'>{pack_bytes(asset(VIEWER).encode())}</script>")
    parts += [f"<script>{text}</script>" for text in code]
    return "\n".join([*parts, "</body></html>\n"])


def page_data(source: Source, metric: str, embedded: Embedded, server: bool) -> dict[str, Any]:
    """What the page's code needs to know; cases in the order worst, best, second worst, ..."""
    files = {files.identifier: files for files in source.files}
    present = {name for rows in source.scores.values() for row in rows.values() for name in row}
    hounsfield = source.settings is not None and source.settings.hounsfield
    return {
        "server": server,
        "unit": source.unit,
        "labels": [label for label, rows in source.scores.items() if rows],
        "condition": source.condition_name,
        "target": source.target_name,
        "comparable": source.comparable,
        "metric": metric,
        "metrics": [
            {"name": name, "label": label_of(name, hounsfield), "higher": name in HIGHER_IS_BETTER}
            for name in METRIC_TEXTS
            if name in present
        ],
        "cases": [
            {
                "name": name,
                "scores": {label: rows[name] for label, rows in source.scores.items() if name in rows},
                "slices": name in embedded.slices or (server and name in files),
                "volumes": name in embedded.volumes or (server and name in files),
                "problem": embedded.problems.get(name),
            }
            for name in worst_and_best(source, metric)
        ],
    }


def asset(name: str) -> str:
    """Text of a file of ``assets/``."""
    return resources.files("gdmunet.evaluation.report").joinpath("assets", name).read_text(encoding="utf-8")


def show_case(files: CaseFiles, with_volumes: bool) -> tuple[str, str]:
    """Slices and, where wanted, coarse volumes of one case as JSON; a problem becomes ``{"problem": text}``."""
    try:
        case = load_case(files)
        return json.dumps(slices_of(case)), json.dumps(embedded_volumes(case)) if with_volumes else ""
    except GdmError as error:
        return json.dumps({"problem": error.one_line()}), ""


def _embed(
    source: Source, order: Sequence[str], limits: PageLimits, room: int, processes: int, show_progress: bool
) -> Embedded:
    files = {files.identifier: files for files in source.files}
    chosen = [name for name in order if name in files][: limits.pictures]
    items = [(name, (files[name], number < limits.volumes)) for number, name in enumerate(chosen)]
    shown = run_in_workers(show_case, items, processes, show_progress, "cutting slices")
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


def _json_script(identifier: str, text: str) -> str:
    """JSON inside a page: without ``<`` no name of a case can end the script element."""
    return f"<script type='application/json' id='{identifier}'>{text.replace('<', chr(92) + 'u003c')}</script>"
