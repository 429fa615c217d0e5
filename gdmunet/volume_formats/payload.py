"""The voxels of a file, unpacked to their end and counted, with every check that the libraries leave out.

ITK reads a file that is cut short without a word, goes on after a failed checksum, and turns NaN of a NIfTI into 0. So
the bytes are read here, for every format, before anybody else sees them.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.host_memory import check_memory, planned_memory
from gdmunet.quantities import counted
from gdmunet.volume_formats.interface import damaged_error, not_finite_error

Packing = Literal["none", "gzip", "zlib"]

_CHUNK_BYTES = 1 << 18
# A byte of a deflated stream unpacks to at most 1032.
_LARGEST_RATIO = 1032


@dataclass(frozen=True)
class Payload:
    """Where the voxels of a volume lie, and what they are.

    Attributes
    ----------
    file
        File that holds them.
    start
        Bytes of the file before them; None: they are the end of the file. Inside a packed stream for `skipped`.
    packing
        Compression of these bytes.
    kind
        Their type, with its byte order.
    shape
        Voxels (z, y, x).
    skipped
        Unpacked bytes before them.
    """

    file: Path
    start: int | None
    packing: Packing
    kind: np.dtype
    shape: tuple[int, ...]
    skipped: int = 0

    @property
    def size(self) -> int:
        """Bytes of the voxels."""
        return math.prod(self.shape) * self.kind.itemsize


def read_voxels(payload: Payload) -> np.ndarray:
    """The voxels (z, y, x) in their type, in the byte order of this machine.

    Raises
    ------
    GdmError
        Too few bytes, a whole plane too many, a wrong checksum, NaN or infinity, or too little memory.
    """
    held = payload.file.stat().st_size
    most = held * (1 if payload.packing == "none" else _LARGEST_RATIO)
    if payload.size > most:  # nothing of that size is asked for in vain
        raise damaged_error(f"a file of {held} bytes cannot hold {payload.size}")
    check_memory(payload.size, payload.shape, "reading the volume", "close other programs, or use a larger computer")
    with planned_memory(payload.size, "reading the volume"):
        return _read_voxels(payload, held)


def _read_voxels(payload: Payload, held: int) -> np.ndarray:
    try:
        with open(payload.file, "rb") as file:
            _seek(file, payload, held)
            data, found = _fill(_unpacked(file, payload.packing), payload)
    except (EOFError, OSError, zlib.error) as error:
        raise damaged_error(str(error)) from error
    if found < payload.size:
        raise damaged_error(f"{found} bytes of voxels where the header needs {payload.size}")
    values = data.view(payload.kind)
    if payload.kind.kind == "f" and (count := _count_not_finite(values)):
        raise not_finite_error(count)
    native: np.ndarray = values.astype(payload.kind.newbyteorder("="), copy=False)
    return native.reshape(payload.shape)


def read_start(path: Path, size: int, packed: bool = False) -> bytes:
    """The first bytes of a file, or of what it unpacks to.

    Raises
    ------
    GdmError
        A packed file that cannot be unpacked.
    """
    try:
        with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
            return stream.read(size)
    except (EOFError, OSError, zlib.error) as error:
        raise damaged_error(str(error)) from error


def _seek(file: IO[bytes], payload: Payload, held: int) -> None:
    start = held - payload.size if payload.start is None else payload.start
    if start < 0:
        raise damaged_error(f"{held} bytes of voxels where the header needs {payload.size}")
    file.seek(start)


def _unpacked(file: IO[bytes], packing: Packing) -> Any:
    if packing == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    return _ZlibStream(file) if packing == "zlib" else file


def _fill(stream: Any, payload: Payload) -> tuple[np.ndarray, int]:
    """The bytes of the voxels, and how many there were; reads to the end, where a packed stream has its checksum."""
    _skip(stream, payload.skipped)
    data = np.empty(payload.size, dtype=np.uint8)
    view, found = data.data, 0
    while found < payload.size and (count := stream.readinto(view[found : found + _CHUNK_BYTES])):
        found += count
    plane = max(1, payload.size // max(1, payload.shape[0]))
    surplus = 0
    while rest := stream.read(_CHUNK_BYTES):
        surplus += len(rest)
        if surplus >= plane:
            raise damaged_error(f"more voxels than the header says, {payload.size} bytes: {counted(surplus, 'byte')}")
    return data, found


def _skip(stream: Any, count: int) -> None:
    while count > 0 and (read := len(stream.read(min(count, _CHUNK_BYTES)))):
        count -= read


class _ZlibStream(io.RawIOBase):
    """A zlib stream, read in parts; a wrong checksum and a missing end are errors, which zlib alone reports late."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._stream = (
            file,
            zlib.decompressobj(zlib.MAX_WBITS | 32),
        )  # zlib's or gzip's, as MetaImage has it

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        wanted = len(target)
        while not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._file.read(_CHUNK_BYTES)
            part = self._stream.decompress(packed, wanted)
            if part:
                target[: len(part)] = part
                return len(part)
            if not packed and not self._stream.eof:
                raise EOFError("the compressed voxels end before their checksum")
        return 0


def _count_not_finite(values: np.ndarray) -> int:
    """Of a large array, by parts: a mask of the whole would take a quarter of its memory."""
    return sum(
        int(part.size - np.isfinite(part).sum())
        for part in (values[start : start + _CHUNK_BYTES] for start in range(0, values.size, _CHUNK_BYTES))
    )


def checked_shape(sizes: list[int]) -> tuple[int, int, int]:
    """(z, y, x) of the sizes (x, y, z) in a header.

    Raises
    ------
    GdmError
        Not three axes of at least one voxel, or more voxels than any file holds.
    """
    if len(sizes) != 3 or min(sizes) < 1 or math.prod(sizes) > 2**48:
        raise not_a_volume_error(f"size {tuple(sizes)} (x, y, ...)")
    x, y, z = sizes
    return z, y, x


def not_a_volume_error(found: str) -> GdmError:
    """The error of a file of other axes than three, or of several values for each voxel."""
    return GdmError(
        "not a three-dimensional volume of one value per voxel",
        found=found,
        expected="three axes, one value",
        remedy="split a 4D series into one file per volume (one channel each); stack 2D slices first",
    )
