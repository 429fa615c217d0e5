"""The voxels of a NIfTI file, with faults that ITK does not report: a file cut short, and NaN or infinity.

ITK reads a truncated file without a word and leaves the rest of the volume as it was, and its NIfTI library turns
every value that is not finite into 0, which in a CT is water. So every file is read here to its end, and where its
numbers are the values themselves, which is nearly always, ITK need not unpack it a second time.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

_HEADER_BYTES = 348
# Code of a type in the header to NumPy's name.
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_CHUNK_BYTES = 1 << 18
# A byte of a gzip file unpacks to at most 1032.
_LARGEST_RATIO = 1032


@dataclass(frozen=True, eq=False)
class NiftiScan:
    """Result of reading a file to its end.

    Attributes
    ----------
    damage
        The fault in words; None: no fault.
    not_finite
        Voxels of NaN or infinity.
    voxels
        The stored numbers (z, y, x) in their stored type, in the byte order of this machine; None for a file whose
        header asks for more than that (a scale, more axes, a rare type): ITK knows what to do.
    """

    damage: str | None = None
    not_finite: int = 0
    voxels: np.ndarray | None = None


@dataclass(frozen=True)
class _NiftiHeader:
    data_start: int
    data_bytes: int
    kind: str | None  # NumPy type of the voxels; None: a rare one
    shape: tuple[int, ...]  # (z, y, x)
    plain: bool  # whether the stored numbers are the values of one volume


def read_nifti(path: Path) -> NiftiScan:
    """Read a .nii or .nii.gz file to its end.

    A file that is not NIfTI-1 gives a clean scan without voxels: the reader refuses it.
    """
    opener: Any = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            header = _parse(stream.read(_HEADER_BYTES))
            if header is None:
                return NiftiScan()
            if header.data_bytes > _LARGEST_RATIO * path.stat().st_size:  # nothing of that size is asked for in vain
                return NiftiScan(damage=f"a file of {path.stat().st_size} bytes cannot hold {header.data_bytes}")
            stream.read(header.data_start - _HEADER_BYTES)
            data, found = _read_data(stream, header.data_bytes)
    except (EOFError, OSError, zlib.error) as error:
        return NiftiScan(damage=str(error))
    if found < header.data_bytes:
        return NiftiScan(damage=f"{found} bytes of voxels where the header needs {header.data_bytes}")
    if header.kind is None:
        return NiftiScan()
    values = data.view(header.kind)
    not_finite = _count_not_finite(values) if values.dtype.kind == "f" else 0
    if not header.plain:
        return NiftiScan(not_finite=not_finite)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return NiftiScan(not_finite=not_finite, voxels=native.reshape(header.shape))


def _parse(header: bytes) -> _NiftiHeader | None:
    if len(header) < _HEADER_BYTES:
        return None
    order = next((sign for sign in "<>" if struct.unpack_from(sign + "i", header)[0] == _HEADER_BYTES), None)
    if order is None:
        return None
    axes, *sizes = struct.unpack_from(order + "8h", header, 40)
    kind, bits = struct.unpack_from(order + "2h", header, 70)
    start, slope, intercept = struct.unpack_from(order + "3f", header, 108)
    name = order + _TYPES[kind] if kind in _TYPES and bits == 8 * np.dtype(_TYPES[kind]).itemsize else None
    lengths = [max(1, size) for size in sizes[: max(0, axes)]]
    # ITK takes a scale of 0 for one of 1.
    is_value = slope in (0, 1) and intercept == 0 and header[344:348] == b"n+1\0" and start >= _HEADER_BYTES
    return _NiftiHeader(
        max(_HEADER_BYTES, int(start)),
        math.prod(lengths) * bits // 8,
        name,
        tuple(lengths[2::-1]),
        bool(is_value and len(lengths) >= 3 and math.prod(lengths[3:]) == 1),
    )


def _read_data(stream: IO[bytes], wanted: int) -> tuple[np.ndarray, int]:
    """The bytes of the voxels, and how many there were; reads to the end, where gzip keeps its checksum."""
    data = np.empty(wanted, dtype=np.uint8)
    view, found = data.data, 0
    while found < wanted and (count := stream.readinto(view[found : found + _CHUNK_BYTES])):  # type: ignore[attr-defined]
        found += count
    while stream.read(_CHUNK_BYTES):
        pass
    return data, found


def _count_not_finite(values: np.ndarray) -> int:
    """Of a large array, by parts: a mask of the whole would take a quarter of its memory."""
    return sum(
        int(part.size - np.isfinite(part).sum())
        for part in (values[start : start + _CHUNK_BYTES] for start in range(0, values.size, _CHUNK_BYTES))
    )
