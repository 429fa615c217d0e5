"""The only writer of files: each is the old one or the whole new one, and every failure of a write is one message.

What is written lies under a temporary name beside its place, is synced to the disk, and is renamed. The temporary name
carries its process, so that the next run removes what a killed one left, and nothing of a living one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gdmunet.disk_errors import writing_error
from gdmunet.owners import sweep, temporary_beside
from gdmunet.promises import promise, take_back

_BUFFER = 1 << 20
# Folders that this process has cleared of what dead ones left.
_SWEPT: set[Path] = set()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there already is fine.

    Raises
    ------
    GdmError
        A file is in the way, permission is missing, or the file system is read-only or full.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error("cannot make the folder", folder, error) from error


@contextlib.contextmanager
def atomic_path(destination: Path, *failures: type[Exception]) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; on success sync it to the disk and rename it into place.

    The temporary name keeps the suffixes of `destination`, so writers that choose a format by the file's ending
    work. If the body raises, the temporary file is removed and `destination` stays as it was.

    Parameters
    ----------
    failures
        Exceptions, beside `OSError`, with which the writer in the body says that it could not write. The body should
        do nothing else that raises them.

    Raises
    ------
    GdmError
        The disk is full, or the folder cannot be made or written to.
    """
    destination = Path(destination)
    make_folder(destination.parent)
    temporary = _temporary(destination)
    try:
        with _explained(f"cannot write {destination.name}", destination, temporary, failures):
            yield temporary
            _sync_file(temporary)
            temporary.replace(destination)
            promise([destination])
            _sync_folder(destination.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(destination: Path) -> Iterator[BinaryIO]:
    """Yield an open file that takes the place of `destination` in the end, as `atomic_path` does.

    A write that fails becomes the disk message whatever the library that asked for it makes of it: torch turns a full
    disk into a `RuntimeError` that does not say so.
    """
    with atomic_path(destination) as temporary:
        raw = _Remembering(temporary, "wb")
        try:
            with io.BufferedWriter(raw, _BUFFER) as file:
                yield file
        except Exception as error:
            if raw.failure is not None and raw.failure is not error:
                raise raw.failure from error
            raise


@contextlib.contextmanager
def atomic_folder(destination: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `destination` in the end: whole or not at all.

    Parameters
    ----------
    replace
        Whether a folder that is there already is replaced; else it must be empty.
    """
    destination = Path(destination)
    make_folder(destination.parent)
    building, replaced = _temporary(destination), temporary_beside(destination)
    try:
        with _explained(f"cannot write {destination.name}", destination, building, ()):
            building.mkdir()
            yield building
            for path in building.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    _sync_file(path)
            if replace and destination.exists():
                destination.rename(replaced)
            take_back(destination)
            building.rename(destination)
            promise(path for path in destination.rglob("*") if path.is_file())
            _sync_folder(destination.parent)
    finally:
        take_back(building)
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


@contextlib.contextmanager
def atomic_files(destination: Path, *failures: type[Exception]) -> Iterator[Path]:
    """Yield the path of `destination` in a temporary folder; all files that lie there in the end move beside it.

    For formats of two files, of which one holds the other's name: `destination` itself is renamed last.
    """
    destination = Path(destination)
    make_folder(destination.parent)
    building = _temporary(destination)
    try:
        with _explained(f"cannot write {destination.name}", destination, building, failures):
            building.mkdir()
            yield building / destination.name
            made = sorted(building.iterdir(), key=lambda path: path.name == destination.name)
            for file in made:
                _sync_file(file)
            for file in made:
                file.replace(destination.with_name(file.name))
                promise([destination.with_name(file.name)])
            _sync_folder(destination.parent)
    finally:
        take_back(building)
        shutil.rmtree(building, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a path, for intermediate files; it goes in the end."""
    make_folder(Path(beside).parent)
    folder = _temporary(Path(beside))
    make_folder(folder)
    try:
        yield folder
    finally:
        take_back(folder)
        shutil.rmtree(folder, ignore_errors=True)


def check_writable(*files: Path) -> None:
    """Refuse files that cannot be written, before the work whose results they will hold; their folders are made.

    Raises
    ------
    GdmError
        A folder has the name of a file; the folder around it cannot be made or written to.
    """
    for file in map(Path, files):
        if file.is_dir():
            raise writing_error(f"cannot write {file.name}", file, OSError(errno.EISDIR, os.strerror(errno.EISDIR)))
        with scratch_folder(file):
            pass


def write_bytes(destination: Path, content: bytes) -> None:
    """Write `content` to `destination` atomically."""
    with atomic_file(destination) as file:
        file.write(content)


def write_text(destination: Path, text: str) -> None:
    """Write `text` (UTF-8) to `destination` atomically; half characters of foreign file names become escapes."""
    write_bytes(destination, text.encode("utf-8", "backslashreplace"))


def append_text(file: Path, text: str) -> None:
    """Add `text` (UTF-8) to the end of a file in one write, and sync it.

    Raises
    ------
    GdmError
        The disk is full, or the file cannot be written to.
    """
    with _explained(f"cannot write {Path(file).name}", file, None, ()), open(file, "ab", buffering=0) as stream:
        content = memoryview(text.encode("utf-8", "backslashreplace"))
        while content:
            content = content[stream.write(content) :]
        os.fsync(stream.fileno())


def move(source: Path, destination: Path) -> None:
    """Rename a file or a folder to a place on the same disk, and sync that.

    Raises
    ------
    GdmError
        The system refuses.
    """
    with _explained(f"cannot move {Path(source).name} to its place", destination, None, ()):
        Path(source).replace(destination)
        moved = take_back(Path(source))
        promise(Path(destination) / file.relative_to(source) for file in moved)
        _sync_folder(Path(destination).parent)


def remove(path: Path) -> None:
    """Delete a file or a folder that the command has no more use for; what is not there is fine.

    Raises
    ------
    OSError
        The system refuses; the caller says what that means.
    """
    take_back(Path(path))
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def _temporary(destination: Path) -> Path:
    """A temporary name; before the first one in a folder, what dead processes left there is removed."""
    if destination.parent not in _SWEPT:
        _SWEPT.add(destination.parent)
        sweep(destination.parent)
    return temporary_beside(destination)


class _Remembering(io.FileIO):
    """A file that keeps the failure of its writing, which a library on top of it may hide."""

    failure: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content) or 0
        except OSError as error:
            self.failure = error
            raise


@contextlib.contextmanager
def _explained(problem: str, file: Path, written: Path | None, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Inside, a failed write becomes a `GdmError` with its reason."""
    try:
        yield
    except OSError as error:
        raise writing_error(problem, file, error) from error
    except failures as error:
        raise writing_error(problem, file, _reason(error, written)) from error


def _reason(error: Exception, written: Path | None) -> OSError:
    """The system's reason why a library could not write: asked by writing a little more beside what it wrote."""
    if written is not None:
        probe = written / "probe" if written.is_dir() else written
        try:
            with open(probe, "ab") as file:
                file.write(bytes(_BUFFER))
                file.flush()
                os.fsync(file.fileno())
        except OSError as refused:
            return refused
    lines = [line for line in str(error).splitlines() if line.strip()]
    return OSError(lines[-1].strip() if lines else type(error).__name__)


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last beyond a loss of power, on systems that sync folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM):
            raise
    finally:
        os.close(descriptor)
