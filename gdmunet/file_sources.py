"""A folder whose files are copied from elsewhere: of another disk, or behind a URL of an object store (fsspec)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gdmunet.errors import GdmError
from gdmunet.foreign import reason

Result = TypeVar("Result")
_PIECE = 4 << 20
# Seconds between two tries of a server that does not answer.
_PAUSES = (0.5, 2.0, 5.0)
_ABSENT = (FileNotFoundError, PermissionError, NotADirectoryError)


class FileSource(Protocol):
    """A folder to read from; names are relative to it, with ``/``."""

    def __str__(self) -> str: ...

    def names(self, folder: str, ending: str) -> list[str]:
        """Names of the files in one of its folders (``""``: its own) that end so, sorted; without the folder."""

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def copy(self, name: str, destination: Path) -> None:
        """Write a file's bytes to a path of this machine."""


@dataclass(frozen=True)
class LocalSource:
    """A folder that the system shows as one, such as that of a network disk."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def names(self, folder: str, ending: str) -> list[str]:
        """Names of the files there."""
        return sorted(path.name for path in (self.folder / folder).glob(f"*{ending}") if path.name[0] != ".")

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        return (self.folder / name).read_bytes()

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self.folder / name).stat().st_size

    def copy(self, name: str, destination: Path) -> None:
        """Copy in pieces: a stopped copy is left by the next signal."""
        with open(self.folder / name, "rb") as source:
            _write(iter(lambda: source.read(_PIECE), b""), destination)


@dataclass(frozen=True)
class RemoteSource:
    """A folder behind a URL (``s3://bucket/folder``, ``gs://``, ``memory://``), by fsspec.

    The connection is made where it is used, so that a process that is forked or started anew has its own. A server that
    does not answer is asked again for a few seconds.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def names(self, folder: str, ending: str) -> list[str]:
        """Names of the files there."""
        place = f"{self.url.rstrip('/')}/{folder}".rstrip("/")

        def listed() -> list[str]:
            files, root = _open(place)
            files.invalidate_cache()
            entries = [entry["name"] for entry in files.ls(root, detail=True) if entry["type"] == "file"]
            # An object of the folder's own name stands for the folder: the pages of a cloud make such ones.
            return [name for name in entries if name.rstrip("/") != root.rstrip("/")]

        found = (name.rsplit("/", 1)[-1] for name in _patiently(listed, place))
        return sorted(name for name in found if name.endswith(ending) and name[0] != ".")

    def folders(self) -> list[str]:
        """Names of the folders inside, sorted."""

        def listed() -> list[str]:
            files, root = _open(self.url)
            files.invalidate_cache()
            return [entry["name"] for entry in files.ls(root, detail=True) if entry["type"] == "directory"]

        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in _patiently(listed, self.url))

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        return self._of(name, lambda files, path: bytes(files.cat_file(path)))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._of(name, lambda files, path: int(files.size(path)))

    def copy(self, name: str, destination: Path) -> None:
        """Fetch in pieces; a try that fails begins anew."""

        def fetch(files: Any, path: str) -> None:
            with files.open(path, "rb", block_size=_PIECE) as source:
                _write(iter(lambda: source.read(_PIECE), b""), destination)

        self._of(name, fetch)

    def _of(self, name: str, work: Callable[[Any, str], Result]) -> Result:
        place = f"{self.url.rstrip('/')}/{name}"
        return _patiently(lambda: work(*_open(place)), place)


def _write(pieces: Iterator[bytes], destination: Path) -> None:
    with open(destination, "wb") as file:
        for piece in pieces:
            file.write(piece)


def _open(place: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there."""
    try:
        from fsspec.core import url_to_fs  # an extra
    except ImportError as error:
        raise _missing(place, error) from error
    try:
        files, path = url_to_fs(place)
    except (ImportError, ValueError) as error:  # a protocol without its package, or an unknown one
        raise _missing(place, error) from error
    return files, path


def _patiently(work: Callable[[], Result], place: str) -> Result:
    """The result of asking a server, which may be away for a moment."""
    for pause in (*_PAUSES, None):
        try:
            return work()
        except GdmError:
            raise
        except _ABSENT as error:
            raise GdmError(
                "the object store does not give this file or folder",
                file=place,
                found=reason(error),
                remedy="check the address, and that these credentials may read it",
            ) from error
        except Exception as error:  # each client raises its own; a disk of this machine that is full is told by OSError
            if isinstance(error, OSError) and error.filename is not None:
                raise
            if pause is None:
                raise GdmError(
                    "the object store does not answer",
                    file=place,
                    found=f"{reason(error)}, {len(_PAUSES) + 1} times",
                    remedy="check the server, the network and the credentials, then run the command again; a training "
                    "continues with --c, a prediction with --continue_prediction",
                ) from error
            time.sleep(pause)
    raise AssertionError("the last try has no pause")


def _missing(place: str, error: Exception) -> GdmError:
    return GdmError(
        "this address cannot be opened",
        file=place,
        found=reason(error),
        remedy='install what reads it: pip install "gdmunet[cloud]" for s3://, and gcsfs for gs://',
    )
