"""Limits of an archive of a stranger, all of them checked before a byte of it is written."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import IO

from gdmunet.checkpoint import described_bytes
from gdmunet.errors import GdmError
from gdmunet.foreign import MOST_BYTES, reading
from gdmunet.quantities import memory_size

# Folds of a model, each with up to three checkpoints and its settings.
MOST_MEMBERS = 512
# Of text; weights are not packed by gdmunet, and shrink by a tenth elsewhere.
MOST_RATIO = 200
_LEFT_FREE = 64 << 20
# The list of members comes before all checks, as one piece of the file; this one holds ten thousand names.
_MOST_LISTED = 4 << 20
_MOST_HEADER = 16 << 20


class BoundedFile(io.BufferedReader):
    """A file of which no single piece is larger than the list of members that an archive can have."""

    def __init__(self, file: Path) -> None:
        super().__init__(io.FileIO(file))

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; a larger piece than any archive of a model needs is an error."""
        whole = size is None or size < 0
        if (os.fstat(self.fileno()).st_size - self.tell() if whole or size is None else size) > _MOST_LISTED:
            raise zipfile.BadZipFile("the list of its members is larger than that of any model")
        return super().read(size)


def check_limits(archive: zipfile.ZipFile, zip_path: Path, results: Path) -> None:
    """Refuse an archive whose members are too many, too large, encrypted, or not as large as their network says.

    Raises
    ------
    GdmError
        Says which limit, with its numbers.
    """
    members = archive.infolist()
    packed, unpacked = (sum(getattr(m, key) for m in members) for key in ("compress_size", "file_size"))
    size = zip_path.stat().st_size
    found = f"{len(members)} members of {memory_size(unpacked)} in {memory_size(size)}"
    wrong = None
    if len(members) > MOST_MEMBERS:
        wrong, expected = "the archive has more members than a model can have", f"{MOST_MEMBERS} at most"
    elif any(member.flag_bits & 1 for member in members):
        wrong, expected = "the archive is encrypted", "an archive that gdm_export_model wrote"
    elif packed > size or any(m.file_size > MOST_RATIO * m.compress_size + 1000 for m in members):
        wrong, expected = "the archive unpacks to more than its bytes can hold", f"{MOST_RATIO} times at most"
    if wrong is not None:
        raise GdmError(wrong, file=zip_path, found=found, expected=expected, remedy="use the zip of an exported model")
    for member in members:
        _check_size(archive, member, zip_path)
    _check_free(results, unpacked, found)


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo, zip_path: Path) -> None:
    """Text is as large as gdmunet reads it; weights are as large as the network that their header describes."""
    most = MOST_BYTES
    if member.filename.endswith(".safetensors"):
        problem = f"{Path(member.filename).name} in the archive is not a checkpoint"
        with reading(problem, zip_path, remedy="copy it again"), archive.open(member) as stream:
            most = _most_bytes(stream)
    if member.file_size > most:
        raise GdmError(
            "a file in the archive is larger than it can be",
            file=zip_path,
            found=f"{member.filename}: {memory_size(member.file_size)}",
            expected=f"{memory_size(most)} at most",
            remedy="use the zip of an exported model",
        )


def _most_bytes(stream: IO[bytes]) -> int:
    length = int.from_bytes(stream.read(8), "little")
    if length > _MOST_HEADER:
        raise GdmError(
            "the header of the weights is too long",
            found=memory_size(length),
            remedy="use the zip of an exported model",
        )
    header = json.loads(stream.read(length))
    return 8 + length + described_bytes(header["__metadata__"])


def _check_free(results: Path, unpacked: int, found: str) -> None:
    place = next(folder for folder in (results.resolve(), *results.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < unpacked + _LEFT_FREE:
        raise GdmError(
            "the disk has no room for the model",
            file=results,
            found=f"{memory_size(free)} free; {found}",
            expected=f"{memory_size(unpacked + _LEFT_FREE)} free",
            remedy="free disk space, or import into another results folder (--results)",
        )


def is_plain(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a file: not a link, a device or a folder."""
    return stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
