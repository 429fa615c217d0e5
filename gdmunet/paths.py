"""The three folders, and the only place that reads the environment. Only the commands and their workflows call it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gdmunet.errors import GdmError

FolderName = Literal["raw", "preprocessed", "results"]


def _cached_encoders() -> Path:
    return Path.home() / ".cache" / "gdmunet" / "encoders"


def _own_consents() -> Path:
    return Path.home() / ".config" / "gdmunet" / "consents.json"


@dataclass(frozen=True)
class Folders:
    """Where raw data sets, preprocessed data sets, results, downloaded encoders and the user's consents live.

    `wait_limit` is the number of seconds that a run waits for a process that does nothing (None: the default). `typed`
    are the flags that the user gave: name and value of each, so that a command printed for the user repeats them.
    """

    raw: Path
    preprocessed: Path
    results: Path
    encoders: Path = field(default_factory=_cached_encoders)
    consents: Path = field(default_factory=_own_consents)
    typed: tuple[tuple[FolderName, str], ...] = ()
    wait_limit: float | None = None


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
        wait_limit=_wait_limit(),
    )


def _wait_limit() -> float | None:
    text = os.environ.get("GDM_WAIT_LIMIT", "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise GdmError(
            "GDM_WAIT_LIMIT is not a number",
            found=text[:40],
            expected="seconds that a run waits for a process that does nothing",
            remedy="set it to a number of seconds, or to nothing",
        ) from None


def downloads_allowed() -> bool:
    """False where `HF_HUB_OFFLINE` is set: nothing is fetched from the network then."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() not in ("1", "true", "yes", "on")
