"""The folders of gdmunet: may they be written, is there room, how fast are they; and the encoders at hand."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from gdmunet.encoders.download import cached_file
from gdmunet.encoders.loading import family_folder
from gdmunet.encoders.registry import FAMILIES
from gdmunet.paths import Folders
from gdmunet.quantities import memory_size
from gdmunet.workflows.doctor.finding import Finding

_AREA = "folders"
_TRIAL_BYTES = 64 * 2**20
_LITTLE_DISK, _NO_DISK = 20e9, 1e9
# A GPU training reads about this many bytes of patches per second.
_SLOW_DISK = 50e6


def storage_findings(folders: Folders) -> list[Finding]:
    """The three folders, and the encoders."""
    named = {"raw": folders.raw, "preprocessed": folders.preprocessed, "results": folders.results}
    return [*(folder_finding(name, path) for name, path in named.items()), encoders_at_hand(folders.encoders)]


def folder_finding(name: str, folder: Path) -> Finding:
    """Whether a folder, or the one in which it will be made, can be written and has room, and its speed.

    A file of 64 MiB is written, synced, read again and removed.
    """
    path = folder.absolute()
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    place = f"{path}" if there == path else f"{path} (not there yet; it will be made in {there})"
    if not there.is_dir():
        return Finding(_AREA, name, f"{there} is a file", "bad", f"remove it, or choose another folder with --{name}")
    free = shutil.disk_usage(there).free
    text = f"{place}, {memory_size(free)} free"
    if free < _NO_DISK:
        return Finding(_AREA, name, text, "bad", f"free some space, or choose another disk with --{name}")
    try:
        written, read = disk_speed(there)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding(_AREA, name, f"{text}; writing fails: {reason}", "bad", f"choose another folder with --{name}")
    text += f", writes {memory_size(written)}/s, reads {memory_size(read)}/s"
    if min(written, read) < _SLOW_DISK:
        return Finding(_AREA, name, text, "note", "slow: put the preprocessed folder on a local disk")
    if free < _LITTLE_DISK:
        advice = "little room: a data set of 200 cases takes about 20 GB when it is prepared"
        return Finding(_AREA, name, text, "note", advice)
    return Finding(_AREA, name, text)


def disk_speed(folder: Path) -> tuple[float, float]:
    """Bytes per second of writing and of reading one file, which is dropped from the system's cache in between."""
    block = os.urandom(2**20)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".gdm_doctor_") as file:
        started = time.monotonic()
        for _ in range(_TRIAL_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        written = _TRIAL_BYTES / (time.monotonic() - started)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        started = time.monotonic()
        while file.read(len(block)):
            pass
        return written, _TRIAL_BYTES / (time.monotonic() - started)


def encoders_at_hand(cache: Path) -> Finding:
    """The frozen encoders whose weights are in the package or in the cache."""
    ready = [
        name
        for name, family in FAMILIES.items()
        if (family.source is None and family.argument is None)
        or (family.source is not None and cached_file(family.source, family_folder(family, cache)))
    ]
    return Finding("encoders", "at hand", f"{', '.join(ready)}; more: gdm_download_encoder --list")
