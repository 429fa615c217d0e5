"""The header of a NIfTI-1 file: 348 bytes, read with every check that ITK leaves out, and written."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.geometry import Geometry
from gdmunet.nifti_forms import MILLIMETRES, NiftiForms, forms_of
from gdmunet.volume_formats.interface import header_error, unreadable_error
from gdmunet.volume_formats.payload import Packing, Payload, checked_shape, not_a_volume_error, read_start

HEADER_BYTES = 348
_VOXELS_AT = 352  # after the header and four bytes that say that no extension follows
# Code of a type in the header to NumPy's name.
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_CODES = {name: code for code, name in _TYPES.items()}
_LONGEST_EXTENSIONS = 1 << 26


@dataclass(frozen=True)
class NiftiHeader:
    """The part of a header that a volume needs.

    Attributes
    ----------
    shape
        (z, y, x).
    kind
        Type of the stored numbers, with its byte order.
    voxels_at
        Byte at which they begin.
    scaled
        Whether the values are a slope times the stored numbers plus an intercept.
    forms
        The places of the volume.
    """

    shape: tuple[int, int, int]
    kind: np.dtype
    voxels_at: int
    scaled: bool
    forms: NiftiForms

    def payload(self, path: Path) -> Payload:
        """Where the voxels lie."""
        packing: Packing = "gzip" if _is_packed(path) else "none"
        if packing == "none":
            return Payload(path, self.voxels_at, packing, self.kind, self.shape)
        return Payload(path, 0, packing, self.kind, self.shape, self.voxels_at)


def read_header(path: Path) -> NiftiHeader:
    """Read and check the header of a .nii or .nii.gz file.

    Raises
    ------
    GdmError
        Not NIfTI-1, not one three-dimensional volume of numbers, or entries that cannot be.
    """
    data = read_start(path, HEADER_BYTES, _is_packed(path))
    order = next((sign for sign in "<>" if data[:4] == struct.pack(sign + "i", HEADER_BYTES)), None)
    if len(data) < HEADER_BYTES or order is None or data[344:348] != b"n+1\0":
        raise unreadable_error("it does not begin with the header of a NIfTI-1 file")
    kind, bits = struct.unpack_from(order + "2h", data, 70)
    if kind not in _TYPES or bits != 8 * np.dtype(_TYPES[kind]).itemsize:
        raise header_error("its type is unknown", f"datatype {kind}, bitpix {bits}", "whole or real numbers")
    start, slope, intercept = struct.unpack_from(order + "3f", data, 108)
    if not HEADER_BYTES <= start <= _LONGEST_EXTENSIONS:  # NaN fails too
        raise header_error("its voxels cannot begin there", f"vox_offset {start:g}", f"{_VOXELS_AT}")
    is_value = slope in (0, 1) and intercept == 0  # ITK takes a slope of 0 for one of 1
    return NiftiHeader(
        _shape(data, order), np.dtype(order + _TYPES[kind]), int(start), not is_value, _forms(data, order)
    )


def header_bytes(array: np.ndarray, geometry: Geometry) -> bytes:
    """Header, and the four bytes after it, of a file that holds `array` (z, y, x) in its own type.

    The places that came with the grid are written as they were; else both forms say where it lies.
    """
    forms = geometry.forms or _forms_of_grid(geometry)
    name = array.dtype.str[1:]
    data = bytearray(_VOXELS_AT)
    struct.pack_into("<i", data, 0, HEADER_BYTES)
    data[38:39] = b"r"  # regular
    struct.pack_into("<8h", data, 40, 3, *array.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", data, 70, _CODES[name], 8 * array.dtype.itemsize)
    struct.pack_into("<4f", data, 76, *forms.pixdim)
    struct.pack_into("<3f", data, 108, _VOXELS_AT, 1.0, 0.0)
    data[123] = forms.units
    struct.pack_into("<2h", data, 252, forms.qform_code, forms.sform_code)
    struct.pack_into("<6f", data, 256, *forms.quaternion)
    struct.pack_into("<12f", data, 280, *forms.rows)
    data[344:348] = b"n+1\0"
    return bytes(data)


def can_hold(kind: np.dtype) -> bool:
    """Whether NIfTI has this type of numbers."""
    return kind.str[1:] in _CODES


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _shape(data: bytes, order: str) -> tuple[int, int, int]:
    axes, *sizes = struct.unpack_from(order + "8h", data, 40)
    if not 1 <= axes <= 7:
        raise header_error("the number of axes cannot be right", f"dim[0] = {axes}", "3")
    if axes < 3 or math.prod(max(1, size) for size in sizes[3:axes]) != 1:
        raise not_a_volume_error(f"size {tuple(sizes[:axes])} (x, y, ...)")
    return checked_shape(sizes[:3])


def _forms(data: bytes, order: str) -> NiftiForms:
    pixdim = struct.unpack_from(order + "4f", data, 76)
    qform_code, sform_code = struct.unpack_from(order + "2h", data, 252)
    quaternion = struct.unpack_from(order + "6f", data, 256)
    rows = struct.unpack_from(order + "12f", data, 280)
    if data[123] & 7 not in MILLIMETRES:
        raise header_error("its unit of length is unknown", f"xyzt_units {data[123]}", "metre, mm or micrometre")
    # A form that is not there may hold anything, which is of no use to anybody.
    quaternion = quaternion if qform_code > 0 or np.isfinite(quaternion).all() else (0.0,) * 6
    rows = rows if sform_code > 0 or np.isfinite(rows).all() else (0.0,) * 12
    if not np.isfinite((*pixdim, *quaternion, *rows)).all():
        raise header_error("its place is not made of numbers", "NaN or infinity in pixdim, qform or sform")
    return NiftiForms(max(0, qform_code), max(0, sform_code), pixdim, quaternion, rows, data[123])


def _forms_of_grid(geometry: Geometry) -> NiftiForms:
    to_ras = np.array([-1.0, -1.0, 1.0])
    return forms_of(
        geometry.matrix * to_ras[:, None], np.array(geometry.spacing[::-1]), np.array(geometry.origin) * to_ras
    )
