"""Faults of a NIfTI file that ITK does not report: a file cut short, and NaN or infinity.

ITK reads a truncated file without a word and leaves the rest of the volume as it was, and its NIfTI library turns
every value that is not finite into 0, which in a CT is water. Both can be seen in the file alone.
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
_FLOAT_TYPES = {16: "f4", 64: "f8"}
_CHUNK_BYTES = 1 << 18  # a multiple of every voxel size


@dataclass(frozen=True)
class NiftiScan:
    """Result of a look at the bytes: `damage` in words, or None; `not_finite` voxels of NaN or infinity."""

    damage: str | None = None
    not_finite: int = 0


@dataclass(frozen=True)
class _NiftiHeader:
    data_start: int
    data_bytes: int
    kind: str | None  # NumPy type of floating voxels, else None


def scan_nifti(path: Path) -> NiftiScan:
    """Read a .nii or .nii.gz file to its end (a .nii of whole numbers only its header).

    A file that is not NIfTI-1 gives a clean scan: the reader refuses it.
    """
    is_packed = path.name.endswith(".gz")
    opener: Any = gzip.open if is_packed else open
    try:
        with opener(path, "rb") as stream:
            header = _parse(stream.read(_HEADER_BYTES))
            if header is None:
                return NiftiScan()
            stream.read(header.data_start - _HEADER_BYTES)
            if is_packed or header.kind:
                voxel_bytes, not_finite = _scan_voxels(stream, header)
            else:
                voxel_bytes, not_finite = path.stat().st_size - header.data_start, 0
    except (EOFError, OSError, zlib.error) as error:
        return NiftiScan(damage=str(error))
    if voxel_bytes < header.data_bytes:
        return NiftiScan(damage=f"{max(voxel_bytes, 0)} bytes of voxels where the header needs {header.data_bytes}")
    return NiftiScan(not_finite=not_finite)


def _parse(header: bytes) -> _NiftiHeader | None:
    if len(header) < _HEADER_BYTES:
        return None
    order = next((sign for sign in "<>" if struct.unpack_from(sign + "i", header)[0] == _HEADER_BYTES), None)
    if order is None:
        return None
    axes, *sizes = struct.unpack_from(order + "8h", header, 40)
    kind, bits = struct.unpack_from(order + "2h", header, 70)
    (start,) = struct.unpack_from(order + "f", header, 108)
    kind_name = order + _FLOAT_TYPES[kind] if kind in _FLOAT_TYPES else None
    voxels = math.prod(max(1, size) for size in sizes[: max(0, axes)])
    return _NiftiHeader(max(_HEADER_BYTES, int(start)), voxels * bits // 8, kind_name)


def _scan_voxels(stream: IO[bytes], header: _NiftiHeader) -> tuple[int, int]:
    """Bytes of voxels, and how many voxels are not finite; reads to the end, where gzip keeps its checksum."""
    voxel_bytes = not_finite = 0
    while chunk := stream.read(_CHUNK_BYTES):
        if header.kind:
            voxels = chunk[: max(0, header.data_bytes - voxel_bytes)]
            size = np.dtype(header.kind).itemsize
            values = np.frombuffer(voxels, dtype=header.kind, count=len(voxels) // size)
            not_finite += int(values.size - np.isfinite(values).sum())
        voxel_bytes += len(chunk)
    return voxel_bytes, not_finite
