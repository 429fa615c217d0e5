"""Read journal.jsonl, the record of a training, one line for each epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gdmunet.errors import GdmError
from gdmunet.foreign import parse_json, read_bounded
from gdmunet.plain_text import one_line


def read_journal(file: Path) -> tuple[dict[str, Any], ...]:
    """The rows of a journal, first epoch first.

    The last line may be half written, because the training still runs or was killed while it wrote; such a line is
    left out.

    Raises
    ------
    GdmError
        Any other line is not a JSON object, or one has a value that no journal has.
    """
    lines = [line for line in read_bounded(Path(file)).splitlines() if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        row = _parsed(line)
        if row is not None and (wrong := _wrong_value(row)) is None:
            rows.append(row)
        elif row is not None or number < len(lines):
            raise GdmError(
                "a line of the journal is not JSON" if row is None else f"a line of the journal has a wrong {wrong}",
                file=file,
                found=f"line {number}: {one_line(line[:60].decode(errors='replace'))}",
                expected="one JSON object of numbers for each epoch",
                remedy="remove the line, or train the fold anew (--overwrite)",
            )
    return tuple(rows)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None where the line is not a JSON object."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _wrong_value(row: dict[str, Any]) -> str | None:
    """The key of a value that no journal has; None: all are fine."""
    epoch = row.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        return "epoch"
    for key, value in row.items():
        if not isinstance(value, str if key == "unit" else int | float | None):
            return one_line(key, 80)
    return None
