"""Read journal.jsonl, the record of a training, one line for each epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gdmunet.errors import GdmError


def read_journal(file: Path) -> tuple[dict[str, Any], ...]:
    """The rows of a journal, first epoch first.

    The last line may be half written, because the training still runs or was killed while it wrote; such a line is
    left out.

    Raises
    ------
    GdmError
        Any other line is not a JSON object.
    """
    lines = [line for line in Path(file).read_bytes().splitlines() if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        row = _parsed(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise GdmError(
                "a line of the journal is not JSON",
                file=file,
                found=f"line {number}: {line[:60].decode(errors='replace')}",
                expected="one JSON object for each epoch",
                remedy="remove the line, or train the fold anew (--overwrite)",
            )
    return tuple(rows)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None where the line is not a JSON object."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
