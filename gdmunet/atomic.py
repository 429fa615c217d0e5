"""Files that are either the old one or the whole new one, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from gdmunet.errors import GdmError


@contextlib.contextmanager
def atomic_path(destination: Path) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; on success flush it to disk and rename it into place.

    The temporary name keeps the suffixes of `destination`, so writers that choose a format by the file's ending
    work. If the body raises, the temporary file is removed and `destination` stays as it was.

    Raises
    ------
    GdmError
        When the disk is full or the folder cannot be written to.
    """
    destination = Path(destination)
    temporary = destination.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{destination.name}")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(destination)
    except OSError as error:
        raise GdmError(
            f"cannot write {destination.name}: {error.strerror or error}",
            file=destination,
            remedy="free disk space or check the folder's permissions, then run the same command again; "
            "an earlier version of the file is untouched",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(destination: Path, text: str) -> None:
    """Write `text` (UTF-8) to `destination` atomically."""
    with atomic_path(destination) as temporary:
        temporary.write_text(text, encoding="utf-8")
