"""One writer for a fold, a store or an output folder, on shared disks too: a claim is a file that one process makes.

The file is linked to its name, which one of many processes can do (a whole file appears, or none). It holds host,
process, start and boot, and is touched every half minute. A claim of this machine is live while its process lives. One
that this machine cannot judge is live while it is younger than ten minutes, by the clock of the disk itself; an older
one is taken over, again by one process alone: whoever makes the claim on replacing that very claim.
"""

from __future__ import annotations

import contextlib
import glob
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from gdmunet.atomic import make_folder
from gdmunet.disk_errors import writing_error
from gdmunet.errors import GdmError
from gdmunet.owners import Owner, sweep, temporary_beside
from gdmunet.parts import WHOLE, PartOptions
from gdmunet.progress import say
from gdmunet.serialization import format_json, load_json, to_json

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
_TRIES, _PAUSE = 200, 0.05
CLAIM_FILE = ".running.json"


class ClaimedError(GdmError):
    """A live process holds the claim."""


@dataclass(frozen=True)
class ClaimSpec:
    """The content of a claim.

    Attributes
    ----------
    token
        Name of this claim alone: who finds another one in the file holds it no more.
    work
        Work of the process, in words.
    heartbeat
        Seconds between two signs of life, each of which sets the file's time of change.
    part, parts
        Share of the work, where several processes share a folder.
    """

    owner: Owner
    token: str
    work: str
    heartbeat: float = HEARTBEAT_SECONDS
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class _Found:
    """A claim as it lies there: content (None: not readable), token, and seconds since its last sign of life."""

    spec: ClaimSpec | None
    token: str
    age: float

    @property
    def is_live(self) -> bool:
        verdict = "elsewhere" if self.spec is None else self.spec.owner.verdict()
        return verdict == "alive" or (verdict == "elsewhere" and self.age < STALE_SECONDS)

    def __str__(self) -> str:
        if self.spec is None:
            return f"a claim that cannot be read, {self.age:.0f} s old"
        owner = self.spec.owner
        here = owner.verdict() != "elsewhere"
        life = "" if here else f", last sign of life {self.age:.0f} s ago"
        return f"process {owner.pid} on {owner.host}: {self.spec.work}{life}"


class Claim:
    """Holds what a file stands for, for this process, while open.

    Parameters
    ----------
    file
        File of the claim.
    work
        Work of the process, such as ``training``, for the message that another process gets.
    problem
        First line of that message.
    part
        Share of the work: each has a claim of its own, and all are cut in the same way.
    """

    def __init__(
        self, file: Path, work: str, problem: str = "another process works here", part: PartOptions = WHOLE
    ) -> None:
        self.file, self.problem, self._stem = part.named(Path(file)), problem, Path(file).stem
        self.spec = ClaimSpec(Owner.present(), uuid.uuid4().hex, work, part=part.part_id, parts=part.num_parts)
        self._ended = threading.Event()
        self._beat: threading.Thread | None = None

    @classmethod
    def on_folder(cls, folder: Path, work: str, part: PartOptions = WHOLE) -> Claim:
        """The claim on an output folder, or on a part of its cases."""
        return cls(Path(folder) / CLAIM_FILE, work, "another process writes into this folder", part)

    def __enter__(self) -> Claim:
        make_folder(self.file.parent)
        _take(self.file, self.spec, self.problem)
        try:
            self._check_other_parts()
            sweep(self.file.parent)
        except BaseException:
            self._release()
            raise
        self._beat = threading.Thread(target=self._keep_alive, name="claim", daemon=True)
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._beat is not None:
            self._beat.join(1)
        self._release()

    def check(self) -> None:
        """Refuse to go on where another process has taken the claim over, or its folder is gone (GdmError)."""
        Witness(self.file, self.spec.token).check()

    def _keep_alive(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a disk that is away for a while; `check` says what is left then
                if _token(self.file) == self.spec.token:
                    os.utime(self.file)

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            if _token(self.file) == self.spec.token:
                self.file.unlink(missing_ok=True)

    def _check_other_parts(self) -> None:
        for other in self.file.parent.glob(f"{glob.escape(self._stem)}*.json"):
            if other == self.file:
                continue
            with _probe(self.file) as mine:
                found = _find(other, mine)
            if found is not None and found.is_live and (found.spec is None or found.spec.parts != self.spec.parts):
                raise _refused(self.problem, other, found)


@dataclass(frozen=True)
class Witness:
    """A claim that another process of the same run holds: ranks of a training look whether it is still theirs.

    `token` is None where nobody held it.
    """

    file: Path
    token: str | None

    @classmethod
    def of(cls, file: Path) -> Witness:
        """The claim as it is there."""
        return cls(Path(file), _token(Path(file)))

    def check(self) -> None:
        """Refuse to write where the claim is no longer the same (GdmError)."""
        if self.token is None:
            return
        there = _token(self.file)
        if there == self.token:
            return
        raise GdmError(
            "this process no longer holds its claim: it wrote nothing more",
            file=self.file,
            found="the claim is gone, with its folder or alone" if there is None else "a claim of another process",
            expected="the claim of this run, which has not shown a sign of life for too long, or was removed",
            remedy="look whether another process does the same work; if not, run the command again",
        )


def check_unclaimed(file: Path, problem: str) -> None:
    """Refuse where a live process holds a claim (GdmError); nothing is claimed."""
    if Path(file).is_file():
        with _probe(Path(file)) as mine:
            found = _find(Path(file), mine)
        if found is not None and found.is_live:
            raise _refused(problem, Path(file), found)


def _take(file: Path, spec: ClaimSpec, problem: str) -> None:
    """Make the claim, or replace one of a process that is gone."""
    with _written(file, spec) as mine:
        for _ in range(_TRIES):
            try:
                if _link(mine, file):
                    return
                found = _find(file, mine)
                if found is None:
                    continue
                if found.is_live:
                    raise _refused(problem, file, found)
                if _replace(file, mine, spec, found):
                    if found.spec is None or found.spec.owner.verdict() == "elsewhere":
                        say(f"the claim {file} is taken over; it was of {found}")
                    return
            except OSError as error:
                raise writing_error("cannot claim the folder", file, error) from error
            time.sleep(_PAUSE)
    raise GdmError(problem, file=file, found="claims that come and go", remedy="wait, then run the command again")


def _replace(file: Path, mine: Path, spec: ClaimSpec, found: _Found) -> bool:
    """Put the new claim in the place of exactly the one that was found; False if it is no longer there.

    The right to do so is a claim itself, named after the one that it replaces: one process has it.
    """
    ticket = file.with_name(f"{file.name}-{found.token[:16]}")
    try:
        _take(ticket, replace(spec, token=uuid.uuid4().hex, work="taking over"), "the claim is being taken over")
    except GdmError:
        return False  # another process is at it: look again
    try:
        if _token(file) != found.token:
            return False
        mine.replace(file)
        return True
    finally:
        ticket.unlink(missing_ok=True)


def _find(file: Path, mine: Path) -> _Found | None:
    """The claim that is there; `mine` was written just now on the same disk, whose clock alone counts."""
    try:
        age = mine.stat().st_mtime - file.stat().st_mtime
        token = _token(file)
    except FileNotFoundError:
        return None
    if token is None:
        return None
    return _Found(_read(file), token, max(0.0, age))


def _read(file: Path) -> ClaimSpec | None:
    try:
        return load_json(ClaimSpec, file)
    except (GdmError, OSError):
        return None


def _token(file: Path) -> str | None:
    """Token of the claim that is there, its bytes if it is not readable; None: there is none."""
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return spec.token if (spec := _read(file)) is not None else uuid.uuid5(uuid.NAMESPACE_OID, content.hex()).hex


def _refused(problem: str, file: Path, found: _Found) -> ClaimedError:
    wait = ""
    if found.spec is None or found.spec.owner.verdict() == "elsewhere":
        left = f"{max(0.0, STALE_SECONDS - found.age) / 60:.0f} minutes"
        wait = f" (if it is gone without trace, its claim can be taken over in {left})"
    remedy = f"wait for it or stop it{wait}; do other work meanwhile"
    return ClaimedError(problem, file=file, found=str(found), remedy=remedy)


@contextlib.contextmanager
def _written(file: Path, spec: ClaimSpec) -> Iterator[Path]:
    """The claim as a file of this process alone, to be linked or renamed."""
    make_folder(file.parent)
    mine = temporary_beside(file)
    try:
        with open(mine, "xb") as stream:
            stream.write(format_json(to_json(spec)).encode())
            stream.flush()
            os.fsync(stream.fileno())
        yield mine
    except OSError as error:
        raise writing_error("cannot claim the folder", file, error) from error
    finally:
        with contextlib.suppress(OSError):
            mine.unlink(missing_ok=True)


@contextlib.contextmanager
def _probe(file: Path) -> Iterator[Path]:
    """A file written just now: its time is the disk's present."""
    with _written(file, ClaimSpec(Owner.present(), "", "looking")) as mine:
        yield mine


def _link(mine: Path, file: Path) -> bool:
    """Give the written claim its name, which fails if the name is taken."""
    try:
        file.hardlink_to(mine)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links: the name is made by the one process that may
        try:
            with open(file, "xb") as stream:
                stream.write(mine.read_bytes())
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            return False
    return True
