"""Prepared cases that lie elsewhere, on a network disk or behind a URL, and are copied to this machine to be read.

Records are copied first; the arrays of a case when it is opened, or of all cases at once (`stage`). A file gets its
name when its copy is whole and has the checksum of the record, so what was stopped leaves nothing that is trusted.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from gdmunet.atomic import atomic_path, make_folder
from gdmunet.claims import Claim
from gdmunet.errors import GdmError
from gdmunet.file_sources import FileSource
from gdmunet.foreign import file_checksum, reading
from gdmunet.preprocessing.case_record import CASE_FORMAT, CaseRecord
from gdmunet.preprocessing.casestore import CaseStore, StoredCase
from gdmunet.progress import Progress
from gdmunet.promises import take_back
from gdmunet.quantities import memory_size
from gdmunet.ranges import require
from gdmunet.serialization import load_json
from gdmunet.turns import in_turn

# Free space that is left to others.
_SPARE_BYTES = 64 << 20


class MirroredStore(CaseStore):
    """A `CaseStore` whose folder is a copy of another place.

    Parameters
    ----------
    original
        The store that is copied: its names and recipe; its folder is not read.
    source
        Place of the cases.
    folder
        Folder of the copy.
    """

    def __init__(self, original: CaseStore, source: FileSource, folder: Path) -> None:
        super().__init__(folder.parent, original.plans, original.configuration, original.recipe)
        self.dataset, self.folder, self.source = original.dataset, Path(folder), source
        self._staged = False

    def refresh(self, identifiers: Collection[str]) -> None:
        """Copy the records; arrays of a case whose record has changed are removed. Several processes may do so."""
        make_folder(self.folder)
        for name in identifiers:
            record, mine = self._read(name), self.folder / f"{name}.json"
            if mine.is_file() and mine.read_bytes() == record:
                continue
            mine.unlink(missing_ok=True)
            for file in self._files(name):
                file.unlink(missing_ok=True)
            with atomic_path(mine) as path:
                path.write_bytes(record)
            take_back(mine)  # a copy, which may be removed when it has been used

    def check(self, identifiers: Collection[str]) -> tuple[str, ...]:
        """Refuse cases of other plans; arrays that lie here and are damaged are removed, to be copied again."""
        self.refresh(identifiers)
        records = {name: self._record(name) for name in identifiers}
        for name, record in records.items():
            for file, wanted in zip(self._files(name), record.checksums, strict=False):
                if file.is_file() and file_checksum(file) != wanted:
                    file.unlink(missing_ok=True)
        return tuple(name for name, record in records.items() if not record.origin.recipe)

    def stage(self, identifiers: Collection[str], show_progress: bool = True) -> None:
        """Copy all cases that are not here. Of several processes of a machine one copies, and the others wait.

        Raises
        ------
        GdmError
            The disk has not the space, a file is missing or damaged in its place, or the copying process does nothing.
        """
        with in_turn(Claim.on_folder(self.folder, "copying cases"), self._bytes_here) as waited:
            if waited:  # the other process has compared the bytes, if it came so far
                self.refresh(identifiers)
            else:
                self.check(identifiers)
            self._copy_all(identifiers, show_progress)
        self._staged = True

    def _bytes_here(self) -> float:
        """Bytes in the folder, which grow while another process copies."""
        return float(sum(_bytes(file) for file in self.folder.glob("*")))

    def open(self, identifier: str) -> StoredCase:
        """Open a case; its arrays are copied first, unless all were staged.

        Raises
        ------
        GdmError
            As `CaseStore.open`; the place does not give the case, or the staged folder is gone.
        """
        if self._staged:
            self._check_staged(identifier)
        else:
            if not (self.folder / f"{identifier}.json").is_file():
                self.refresh([identifier])
            self._copy(identifier)
        return super().open(identifier)

    def _check_staged(self, identifier: str) -> None:
        gone = [file for file in self.files(identifier) if not file.is_file()]
        if gone:
            raise GdmError(
                "a staged case is gone from this machine's disk",
                case=identifier,
                file=gone[0],
                found="no file" if self.folder.is_dir() else "no folder",
                expected=f"the copy of {self.source}",
                remedy="leave the staged folder alone until the training ends; continue with --c, which copies again",
            )

    def _copy_all(self, identifiers: Collection[str], show_progress: bool) -> None:
        missing = [(name, file) for name in identifiers for file in self._files(name) if not file.is_file()]
        needed = sum(self._size(name, file) for name, file in missing)
        free = shutil.disk_usage(self.folder).free
        if needed + _SPARE_BYTES > free:
            raise GdmError(
                "the disk has no space for the cases that are to be staged",
                file=self.folder,
                found=f"{memory_size(free)} free",
                expected=f"{memory_size(needed + _SPARE_BYTES)} for {len(missing)} files",
                remedy="free space, choose another folder for --stage, or train without it",
            )
        names = list(dict.fromkeys(name for name, _ in missing))
        with Progress(f"copying to {self.folder}", len(names), show_progress) as progress:
            for name in names:
                self._copy(name)
                progress.step(name)

    def _copy(self, identifier: str) -> None:
        """Copy the arrays of a case that are not here; each has its name when it is whole."""
        files = self._files(identifier)
        if all(file.is_file() for file in files):
            return
        record = load_json(CaseRecord, self.folder / f"{identifier}.json", file_format=CASE_FORMAT)
        sums = record.checksums or (None, None)
        for file, wanted in zip(files, sums, strict=True):
            if file.is_file():
                continue
            with atomic_path(file) as path, self._of_case(identifier, file.name):
                self.source.copy(file.name, path)
                found = file_checksum(path)
                require(
                    wanted is None or found == wanted,
                    "a file of a prepared case has other bytes than were written",
                    f"{found:08x}",
                    f"{wanted or 0:08x}",
                )
            take_back(file)

    def _size(self, identifier: str, file: Path) -> int:
        with self._of_case(identifier, file.name):
            return self.source.size(file.name)

    def _read(self, identifier: str) -> bytes:
        with self._of_case(identifier, f"{identifier}.json"):
            return self.source.read(f"{identifier}.json")

    @contextlib.contextmanager
    def _of_case(self, identifier: str, name: str) -> Iterator[None]:
        """What fails inside is of the place that is copied, except for a full disk of this machine."""
        try:
            with reading("a prepared case cannot be copied from its place", f"{self.source}/{name}"):
                yield
        except GdmError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise cause from None  # the writer of files says so
            raise error.located(
                case=identifier, remedy=f"see that {self.source} holds the cases whole: prepare or upload them again"
            ) from cause


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
