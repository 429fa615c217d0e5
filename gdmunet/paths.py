"""The three folders, and the only place that reads the environment. Only the commands and their workflows call it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

FolderName = Literal["raw", "preprocessed", "results"]


def _cached_encoders() -> Path:
    return Path.home() / ".cache" / "gdmunet" / "encoders"


def _own_consents() -> Path:
    return Path.home() / ".config" / "gdmunet" / "consents.json"


@dataclass(frozen=True)
class Folders:
    """Where raw data sets, preprocessed data sets, results, downloaded encoders and the user's consents live.

    `typed` are the flags that the user gave: name and value of each, so that a command printed for the user repeats
    them.
    """

    raw: Path
    preprocessed: Path
    results: Path
    encoders: Path = field(default_factory=_cached_encoders)
    consents: Path = field(default_factory=_own_consents)
    typed: tuple[tuple[FolderName, str], ...] = ()


def find_folders(
    raw: str | Path | None = None, preprocessed: str | Path | None = None, results: str | Path | None = None
) -> Folders:
    """Flags win over `GDM_RAW`, `GDM_PREPROCESSED`, `GDM_RESULTS`, which win over `./gdm_raw` and so on.

    Encoders lie in `GDM_ENCODERS`, or in the user's cache folder; the files that may run code are listed in
    `GDM_CONSENTS`, or in a file of the user's configuration folder.
    """
    flags: dict[FolderName, str | Path | None] = {"raw": raw, "preprocessed": preprocessed, "results": results}
    cache = os.environ.get("XDG_CACHE_HOME")
    encoders = os.environ.get("GDM_ENCODERS") or (Path(cache) / "gdmunet" / "encoders" if cache else None)
    configuration = os.environ.get("XDG_CONFIG_HOME")
    own = Path(configuration) / "gdmunet" / "consents.json" if configuration else _own_consents()
    return Folders(
        raw=Path(raw or os.environ.get("GDM_RAW") or "gdm_raw"),
        preprocessed=Path(preprocessed or os.environ.get("GDM_PREPROCESSED") or "gdm_preprocessed"),
        results=Path(results or os.environ.get("GDM_RESULTS") or "gdm_results"),
        encoders=Path(encoders) if encoders else _cached_encoders(),
        consents=Path(os.environ.get("GDM_CONSENTS") or own),
        typed=tuple((name, str(path)) for name, path in flags.items() if path),
    )


def downloads_allowed() -> bool:
    """False where `HF_HUB_OFFLINE` is set: nothing is fetched from the network then."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() not in ("1", "true", "yes", "on")
