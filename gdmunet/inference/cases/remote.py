"""Cases that are volume files behind a URL: listed at once, and copied to this machine one by one to be read."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from gdmunet.atomic import make_folder
from gdmunet.dataset import Case, DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.file_sources import RemoteSource
from gdmunet.imageio import CaseVolumes, read_case
from gdmunet.inference.cases.conditions import find_conditions
from gdmunet.inference.cases.files import with_masks
from gdmunet.inference.cases.source import CaseSource
from gdmunet.owners import sweep, temporary_beside
from gdmunet.paths import is_url
from gdmunet.volume_formats.files import Listing, find_volumes, left_out_of, listed_elsewhere
from gdmunet.volume_formats.table import FILE_ENDINGS, companions_of, ending_of


class _RemoteFolder:
    """A folder behind a URL, and the folder of this machine whose name stands for it; nothing is written there."""

    def __init__(self, url: str, copies: Path) -> None:
        self.url = url
        self.source = RemoteSource(url)
        self.stand_in = copies / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
        make_folder(self.stand_in)

    @cached_property
    def names(self) -> list[str]:
        """Names of the files, asked once."""
        return self.source.names("", "")

    @cached_property
    def listing(self) -> Listing:
        """The files, sorted into volumes and the rest; voxels beside a header belong to it."""
        listing = listed_elsewhere(self.stand_in, self.names)
        beside = {name for file in listing.volumes.values() for name in self.beside(file)}
        return replace(listing, left_out=tuple(name for name in listing.left_out if name not in beside))

    def beside(self, file: Path) -> list[str]:
        """Names of the files that hold the voxels of a header."""
        ending = ending_of(file) or ""
        stem = file.name[: len(file.name) - len(ending)]
        return [name for name in (f"{stem}{other}" for other in companions_of(ending)) if name in self.names]


class RemoteCases(CaseSource):
    """Volume files of folders behind URLs; a case is copied when it is read, and its copy removed.

    Parameters
    ----------
    inputs
        Folder, or one folder for each channel; each a URL or a path.
    descriptor
        Description of the data set, with channels and ending.
    copies
        Folder of this machine for copies of what lies behind URLs.
    mask
        Folder of body masks ``CASE.ext``, as a URL or a path; None: the body is derived from the condition.

    Raises
    ------
    GdmError
        A URL that names a file, or that cannot be opened.
    """

    def __init__(
        self, inputs: Sequence[str], descriptor: DatasetDescriptor, copies: Path, mask: str | None = None
    ) -> None:
        self._copies, self._descriptor = copies / "inputs", descriptor
        places = [*inputs, *([mask] if mask is not None else [])]
        folders = [_RemoteFolder(_checked(place), self._copies) for place in places if is_url(place)]
        self._folders = {folder.stand_in: folder for folder in folders}
        by_url = {folder.url: folder.stand_in for folder in folders}
        self._inputs = [by_url.get(place, Path(place)) for place in inputs]
        self.input_folder = self._inputs[0]
        self.mask_folder = None if mask is None else by_url.get(mask, Path(mask))
        sweep(self._copies)

    def list_cases(self) -> list[Case]:
        """The cases, sorted by name; their paths are those that the copies would have."""
        conditions = find_conditions(self._inputs, self._descriptor, self._volumes_of)
        return with_masks(conditions, self.mask_folder, self._volumes_of)

    def left_out(self) -> list[str]:
        """What lies beside the conditions and the masks."""
        listed = [(folder.url, folder.listing.sentence()) for folder in self._folders.values()]
        lines = [f"{url}: {text.partition(': ')[2]}" for url, text in listed if text]
        return [*lines, *left_out_of(path for path in (*self._inputs, self.mask_folder) if path not in self._folders)]

    def place_of(self, folder: Path | None) -> str | None:
        """The URL of a folder."""
        return self._folders[folder].url if folder in self._folders else super().place_of(folder)

    def reading(self) -> dict[str, str]:
        """The folders of further channels, if each channel has one of its own."""
        return {f"folder of channel {i}": str(self.place_of(one)) for i, one in enumerate(self._inputs) if i > 0}

    def read(self, case: Case) -> CaseVolumes:
        """Copy the files of a case, read them, and remove the copies."""
        folder = temporary_beside(self._copies / "case")
        make_folder(folder)
        try:
            copied = [self._copied(path, folder / str(i), case) for i, path in enumerate(case.conditions)]
            mask = self._copied(case.mask, folder / "mask", case) if case.mask is not None else None
            with self._named(folder):
                return read_case(replace(case, conditions=tuple(copied), mask=mask))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _volumes_of(self, folder: Path) -> dict[str, Path]:
        there = self._folders.get(folder)
        return find_volumes(folder) if there is None else there.listing.volumes

    def _copied(self, path: Path, place: Path, case: Case) -> Path:
        """A file of a case on this machine: its copy in `place`, or the file itself if it lies here."""
        there = self._folders.get(path.parent)
        if there is None:
            return path
        make_folder(place)
        for name in (path.name, *there.beside(path)):
            try:
                there.source.copy(name, place / name)
            except GdmError as error:
                error.located(case=case.identifier)
                raise
        return place / path.name

    @contextmanager
    def _named(self, folder: Path) -> Iterator[None]:
        """An error about a copy, which goes, names what it is a copy of."""
        try:
            yield
        except GdmError as error:
            file = Path(error.file) if error.file is not None else None
            if file is not None and folder in file.parents:
                number = file.relative_to(folder).parts[0]
                origin = self.mask_folder if number == "mask" else self._inputs[min(int(number), len(self._inputs) - 1)]
                error.file = f"{str(self.place_of(origin)).rstrip('/')}/{file.name}"
            raise


def _checked(url: str) -> str:
    if ending_of(Path(url)) is not None:
        raise GdmError(
            "a URL names a file",
            file=url,
            expected=f"the URL of a folder with files that end in {', '.join(FILE_ENDINGS)}",
            remedy="give the folder, or copy the file to this machine",
        )
    return url
