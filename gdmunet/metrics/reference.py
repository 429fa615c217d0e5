"""The table of documentation/reference/metrics.md, written from the rows.

``python -m gdmunet.metrics.reference documentation/reference/metrics.md`` writes it; a test checks that it is current.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gdmunet.atomic import write_text
from gdmunet.errors import GdmError
from gdmunet.metrics.metric import Metric
from gdmunet.metrics.table import METRICS

_START, _END = "<!-- metrics: written by gdmunet.metrics.reference -->", "<!-- end of the metrics -->"


def reference_table() -> str:
    """The metrics as a Markdown table."""
    rows = [
        (f"`{m.name}`", m.label, _unit(m), _best(m), ", ".join(m.years) or "-", m.meaning) for m in METRICS.values()
    ]
    lines = [("name", "label", "unit", "best", "SynthRAD", "definition"), ("---",) * 6, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_table(page: str) -> str:
    """The page with the table between its marks.

    Raises
    ------
    GdmError
        The page lacks a mark.
    """
    if _START not in page or _END not in page:
        raise GdmError(
            "the page has no place for the table of metrics",
            expected=f"{_START} ... {_END}",
            remedy="put the two marks back into the page",
        )
    before, rest = page.split(_START, 1)
    after = rest.split(_END, 1)[1]
    return f"{before}{_START}\n\n{reference_table()}\n\n{_END}{after}"


def _unit(metric: Metric) -> str:
    return metric.unit_text("the target's") or "-"


def _best(metric: Metric) -> str:
    return metric.best if isinstance(metric.best, str) else f"{metric.best:g}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    write_text(page, with_table(page.read_text(encoding="utf-8")))
