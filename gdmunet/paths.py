"""The three folders, the processes of a launcher, and the only place that reads the environment.

Only the commands, their workflows and the launcher of processes call it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gdmunet.errors import GdmError

FolderName = Literal["raw", "preprocessed", "results"]


def _cached_encoders() -> Path:
    return Path.home() / ".cache" / "gdmunet" / "encoders"


def _cached_copies() -> Path:
    return Path.home() / ".cache" / "gdmunet" / "copies"


def _own_consents() -> Path:
    return Path.home() / ".config" / "gdmunet" / "consents.json"


@dataclass(frozen=True)
class Folders:
    """Where raw data sets, preprocessed data sets, results, downloaded encoders and the user's consents live.

    `wait_limit` is the number of seconds that a run waits for a process that does nothing (None: the default). `typed`
    are the flags that the user gave: name and value of each, so that a command printed for the user repeats them.
    `copies` is for what lies behind a URL; with prepared data sets behind `preprocessed_url`, `preprocessed` is in it.
    """

    raw: Path
    preprocessed: Path
    results: Path
    encoders: Path = field(default_factory=_cached_encoders)
    consents: Path = field(default_factory=_own_consents)
    typed: tuple[tuple[FolderName, str], ...] = ()
    wait_limit: float | None = None
    preprocessed_url: str | None = None
    copies: Path = field(default_factory=_cached_copies)


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
    prepared = str(preprocessed or os.environ.get("GDM_PREPROCESSED") or "gdm_preprocessed")
    url = prepared if is_url(prepared) else None
    copies = _copies(cache)
    others = (raw or os.environ.get("GDM_RAW"), results or os.environ.get("GDM_RESULTS"))
    for place in filter(is_url, others):
        raise GdmError(
            "raw data sets and results lie in folders, not behind a URL",
            file=str(place),
            remedy="give a folder; --preprocessed alone may be a URL",
        )
    return Folders(
        raw=Path(raw or os.environ.get("GDM_RAW") or "gdm_raw"),
        preprocessed=copies / _short_name(url) if url else Path(prepared),
        results=Path(results or os.environ.get("GDM_RESULTS") or "gdm_results"),
        encoders=Path(encoders) if encoders else _cached_encoders(),
        consents=Path(os.environ.get("GDM_CONSENTS") or own),
        typed=tuple((name, str(path)) for name, path in flags.items() if path),
        wait_limit=_wait_limit(),
        preprocessed_url=url,
        copies=copies,
    )


def is_url(place: str | Path | None) -> bool:
    """Whether a folder is given as a URL, such as ``s3://bucket/folder``."""
    return "://" in str(place)


def _copies(cache: str | None) -> Path:
    """The user's folder for copies of what lies behind a URL; ``GDM_COPIES`` chooses another disk."""
    given = os.environ.get("GDM_COPIES")
    if given:
        return Path(given)
    return Path(cache) / "gdmunet" / "copies" if cache else _cached_copies()


def _short_name(url: str) -> str:
    return hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


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


def visible_gpus() -> tuple[int, ...] | None:
    """Numbers of the GPUs that `CUDA_VISIBLE_DEVICES` leaves to this process; None: it does not say.

    Raises
    ------
    GdmError
        GPUs that are named otherwise than by number.
    """
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return None
    try:
        return tuple(int(number) for number in text.split(",") if number.strip())
    except ValueError:
        raise GdmError(
            "CUDA_VISIBLE_DEVICES does not hold numbers, by which GPUs are given to jobs",
            found=text[:80],
            expected="such as 0,1",
            remedy="set it to the numbers that nvidia-smi shows, or unset it",
        ) from None


@dataclass(frozen=True)
class StartedProcess:
    """The place of this process among those that a launcher started together.

    Attributes
    ----------
    launcher
        Program that started them: ``torchrun`` or ``srun``.
    number, size
        Number of this process from 0 on, and the number of processes on all machines.
    local
        Number of this process on its machine, from 0 on.
    address, port
        Machine of the first process, and the port at which all meet.
    """

    launcher: Literal["torchrun", "srun"]
    number: int
    size: int
    local: int
    address: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.size or self.local < 0 or not 0 < self.port < 1 << 16 or not self.address:
            raise GdmError(
                "the launcher's variables contradict each other",
                found=f"process {self.number} of {self.size}, {self.local} on its machine, "
                f"meeting at {self.address or 'no address'}:{self.port}",
                remedy=_UNSET,
            )


_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_UNSET = "start the command by torchrun or srun, which set the variables; or unset RANK, WORLD_SIZE and SLURM_PROCID"
# Ports below those that a system hands out by itself.
_FIRST_PORT, _PORTS = 15_000, 17_000


def find_processes(environment: Mapping[str, str] | None = None) -> StartedProcess | None:
    """The place that torchrun or srun gave this process; None: it was started alone.

    Parameters
    ----------
    environment
        Variables to read; default: those of this process.

    Raises
    ------
    GdmError
        Variables that are missing, or that are not numbers.
    """
    given = os.environ if environment is None else environment
    found = {name: given[name] for name in _TORCHRUN if given.get(name)}
    if {"RANK", "WORLD_SIZE"} & set(found):
        missing = [name for name in _TORCHRUN if name not in found]
        if missing:
            raise GdmError(
                "a launcher has set some of its variables and not the others",
                found=", ".join(found),
                expected=f"{', '.join(missing)} as well",
                remedy=_UNSET,
            )
        number, size, local = (_number(name, found[name]) for name in _TORCHRUN[:3])
        place = StartedProcess(
            "torchrun", number, size, local, found["MASTER_ADDR"], _number("MASTER_PORT", found["MASTER_PORT"])
        )
        return place if size > 1 else None
    size = _number("SLURM_NTASKS", given.get("SLURM_STEP_NUM_TASKS") or given.get("SLURM_NTASKS") or "1")
    if size == 1 or not given.get("SLURM_PROCID"):
        return None
    port = found.get("MASTER_PORT") or str(_step_port(given))
    return StartedProcess(
        "srun",
        _number("SLURM_PROCID", given["SLURM_PROCID"]),
        size,
        _number("SLURM_LOCALID", given.get("SLURM_LOCALID") or "0"),
        found.get("MASTER_ADDR") or _first_host(given),
        _number("MASTER_PORT", port),
    )


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise GdmError(f"{name} is not a whole number", found=text[:40], remedy=_UNSET) from None


def _step_port(given: Mapping[str, str]) -> int:
    """A port for each step of a job: trainings that share a machine do not meet."""
    job, step = (_number(name, given.get(name) or "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return _FIRST_PORT + (31 * job + step) % _PORTS


def _first_host(given: Mapping[str, str]) -> str:
    """The first machine of SLURM's list, such as ``node003`` of ``node[003-005,9],other``; this one without a list."""
    names = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    hosts = next((given[name] for name in names if given.get(name)), "127.0.0.1")
    # The first name ends at a comma outside of brackets; of each bracket its first number counts.
    first = re.split(r",(?![^\[]*\])", hosts)[0]
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first).strip()
