"""Faults put into volume files of every ending: what a damaged copy, a wrong header or a hostile one looks like."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np

from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.volume_formats.table import FILE_ENDINGS, format_of

SHAPE = (8, 9, 10)
GRID = Geometry(SHAPE, (2.0, 1.5, 1.25), (-30.0, 12.5, 100.0))
# The same entry of each format; a NIfTI's is a place in its header, a layout and the value.
_ENTRIES = {
    "axes": ("NDims", "dimension", (40, "<h")),
    "sizes": ("DimSize", "sizes", (42, "<3h")),
    "type": ("ElementType", "type", (70, "<h")),
}
_HEADER_FAULTS = {
    "axes_without_end": ("axes", "2147483647", (32767,)),
    "no_axes": ("axes", "0", (0,)),
    "negative_axes": ("axes", "-3", (-3,)),
    "sizes_of_zero": ("sizes", "0 9 8", (0, 9, 8)),
    "sizes_below_zero": ("sizes", "10 -9 8", (10, -9, 8)),
    "sizes_without_end": ("sizes", "30000 30000 30000", (30000, 30000, 30000)),
    "fewer_voxels_than_held": ("sizes", "10 9 4", (10, 9, 4)),
    "type_of_5000_letters": ("type", "x" * 5000, (9999,)),
}
VOXEL_SIZES = {"metre": 5500.0, "micron": 0.0055, "of_zero": 0.0}


def faults_of(ending: str) -> list[str]:
    """The faults that a file of this ending can have."""
    packed = () if ending == ".nii" else ("bytes_in_the_middle", "checksum")
    beside = ("voxels_missing",) if ending in (".mhd", ".nhdr") else ()
    sizes = [f"voxels_{name}" for name in VOXEL_SIZES]
    return ["empty", "text", "cut_in_the_header", "cut_in_the_voxels", "not_a_number", *packed, *beside, *sizes,
            *_HEADER_FAULTS]  # fmt: skip


EVERY_FAULT = [(ending, fault) for ending in FILE_ENDINGS for fault in faults_of(ending)]


def write_with_fault(path: Path, array: np.ndarray, fault: str, ending: str) -> None:
    """Write `array` as a file that has one fault."""
    values = array.astype(np.float32)
    if fault == "not_a_number":
        values[1, 2, 3] = np.nan
    write_volume(path, values, GRID)
    parts = format_of(path).parts(path)
    if fault in _HEADER_FAULTS:
        entry, text, numbers = _HEADER_FAULTS[fault]
        meta, nrrd, nifti = _ENTRIES[entry]
        _change(path, {"Meta": (meta, text), "Nrrd": (nrrd, text), "Nifti": (*nifti, numbers)})
    elif fault.removeprefix("voxels_") in VOXEL_SIZES:
        size = VOXEL_SIZES[fault.removeprefix("voxels_")]
        directions = " ".join(f"({','.join(str(size * (i == k)) for i in range(3))})" for k in range(3))
        _change(
            path,
            {
                "Meta": ("ElementSpacing", " ".join([str(size)] * 3)),
                "Nrrd": ("space directions", directions),
                "Nifti": (80, "<3f", (size, size, size)),
            },
        )
    elif fault == "voxels_missing":
        parts[-1].unlink()
    elif fault != "not_a_number":
        _damage(path if fault in ("empty", "text", "cut_in_the_header") else parts[-1], fault, ending)


def _damage(file: Path, fault: str, ending: str) -> None:
    data = bytearray(file.read_bytes())
    middle = len(data) * 2 // 3
    if fault == "bytes_in_the_middle":
        data[middle : middle + 16] = b"\x55" * 16
    elif fault == "checksum":
        data[-6 if ending in (".nii.gz", ".nrrd", ".nhdr") else -2] ^= 0xFF
    else:
        data = {"empty": b"", "text": b"this is not an image", "cut_in_the_header": data[:120]}.get(
            fault, data[:middle]
        )
    file.write_bytes(data)


def _change(path: Path, entries: dict[str, tuple]) -> None:
    kind = next(name for name in entries if type(format_of(path)).__name__.startswith(name))
    if kind == "Nifti":
        at, layout, values = entries[kind]
        packed = path.name.endswith(".gz")
        data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        struct.pack_into(layout, data, at, *values)
        path.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
        return
    key, text = entries[kind]
    sign = rb" = " if kind == "Meta" else rb": "
    data, count = re.subn(
        rb"(?m)^" + key.encode() + sign + rb".*$", key.encode() + sign + text.encode(), path.read_bytes()
    )
    assert count == 1, key
    path.write_bytes(data)
