"""The three folders, and the only place that reads the environment. Only the commands call it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """Where raw data sets, preprocessed data sets and results live."""

    raw: Path
    preprocessed: Path
    results: Path


def find_folders(
    raw: str | Path | None = None, preprocessed: str | Path | None = None, results: str | Path | None = None
) -> Folders:
    """Flags win over `GDM_RAW`, `GDM_PREPROCESSED`, `GDM_RESULTS`, which win over `./gdm_raw` and so on."""
    return Folders(
        raw=Path(raw or os.environ.get("GDM_RAW") or "gdm_raw"),
        preprocessed=Path(preprocessed or os.environ.get("GDM_PREPROCESSED") or "gdm_preprocessed"),
        results=Path(results or os.environ.get("GDM_RESULTS") or "gdm_results"),
    )
