"""Results of single cases on disk, until those of all cases are there and are put together.

A case's result is a file of its own, which says what it was made from. So parts of a work may run in any order, at the
same time and again, with another number of parts, and a run that ended early goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from gdmunet.atomic import make_folder
from gdmunet.claims import Claim
from gdmunet.errors import GdmError
from gdmunet.parts import OpenParts, PartOptions
from gdmunet.serialization import from_json, load_json, save_json, to_json
from gdmunet.turns import in_turn
from gdmunet.version import __version__
from gdmunet.workers import check_processes, run_in_workers

R = TypeVar("R")
FOLDER = ".parts"


@dataclass(frozen=True)
class KeptSpec:
    """The content of a case's file: hash of what the result was made from, and the result."""

    key: str
    result: Any


@dataclass(frozen=True)
class CaseWork(Generic[R]):
    """The work on one case.

    Attributes
    ----------
    name
        The case.
    function
        Function at module level that is called with `arguments`.
    key
        Hash of all that the result is made from (`key_of`).
    """

    name: str
    function: Callable[..., R]
    arguments: tuple[Any, ...]
    key: str


@dataclass(frozen=True)
class CrewOptions:
    """Processes that work on cases, whether their progress is shown, and the title of the bar."""

    processes: int
    show_progress: bool
    title: str

    def __post_init__(self) -> None:
        check_processes(self.processes)


@dataclass(frozen=True)
class KeptResults(Generic[R]):
    """The results of cases in a folder.

    Attributes
    ----------
    folder
        Folder of the files ``CASE.json``.
    kind
        Dataclass of a result.
    beside
        Names, inside the folder, of the other files of a result; ``{}`` stands for the case.
    """

    folder: Path
    kind: type[R]
    beside: tuple[str, ...] = ()

    def files(self, case: str) -> list[Path]:
        """The files of a case, the record first."""
        return [self.folder / f"{case}.json", *(self.folder / name.format(case) for name in self.beside)]

    def read(self, case: str, key: str) -> R | None:
        """The result of a case that was made from what `key` stands for; None: there is none."""
        files = self.files(case)
        if not all(file.is_file() for file in files):
            return None
        try:
            kept = load_json(KeptSpec, files[0])
            return from_json(self.kind, kept.result) if kept.key == key else None
        except GdmError:
            return None  # of another version, or removed at this moment: it is made anew

    def write(self, case: str, key: str, result: R) -> None:
        """Keep the result of a case, whose other files lie in their places."""
        make_folder(self.folder)
        save_json(KeptSpec(key, to_json(result)), self.files(case)[0])


def key_of(*origins: Any) -> str:
    """Hash of what a result is made from, together with the version of gdmunet."""
    return hashlib.sha256(repr((__version__, origins)).encode("utf-8", "backslashreplace")).hexdigest()


def run_part(
    work: Sequence[CaseWork[R]], kept: KeptResults[R], part: PartOptions, crew: CrewOptions, again: bool = False
) -> None:
    """Do the part's cases whose results are not kept.

    Parameters
    ----------
    work
        All cases in their order, which is the same in every part.
    again
        Whether kept results of the part's own cases are made again.

    Raises
    ------
    GdmError
        Names the case; results of finished cases stay.
    """
    todo = [one for one in part.part_of(work) if again or kept.read(one.name, one.key) is None]
    run_in_workers(_keep, [(one.name, (kept, one)) for one in todo], crew.processes, crew.show_progress, crew.title)


def all_kept(work: Sequence[CaseWork[R]], kept: KeptResults[R], part: PartOptions) -> list[R] | OpenParts:
    """The results of all cases, or the parts that are missing."""
    results = {one.name: kept.read(one.name, one.key) for one in work}
    there = [result for result in results.values() if result is not None]
    if len(there) == len(results):
        return there
    return OpenParts.of(part, list(results), {name for name, result in results.items() if result is None})


def alone(file: Path, work: str) -> AbstractContextManager[bool]:
    """Inside, no other part is at the same step: waits for the one that is (`in_turn`)."""
    return in_turn(Claim(file, work, "another part is at this step for too long"))


def _keep(kept: KeptResults[R], one: CaseWork[R]) -> None:
    kept.write(one.name, one.key, one.function(*one.arguments))
