"""Volumes as a page can hold them: whole numbers of 16 bits, packed, with the scale that gives the values back."""

from __future__ import annotations

import base64
import gzip
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from gdmunet.geometry import Geometry

_LARGEST = 32_000
_INT16 = 4  # NIfTI's code of the data type
_MILLIMETRES = 2
_SCANNER = 1  # NIfTI's code: the affine leads to the scanner's world


@dataclass(frozen=True)
class Scale:
    """``value = slope * stored + intercept``; for Hounsfield units of whole numbers nothing is lost."""

    slope: float
    intercept: float

    def store(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape as int16."""
        stored = np.rint((values - self.intercept) / self.slope)
        return np.clip(stored, -32768, 32767).astype(np.int16)


def choose_scale(*arrays: np.ndarray) -> Scale:
    """One scale for arrays that are compared: whole numbers where 16 bits hold them, else the range in 64000 steps."""
    low = min(float(array.min()) for array in arrays)
    high = max(float(array.max()) for array in arrays)
    if max(abs(low), abs(high)) <= _LARGEST and all(_whole(array) for array in arrays):
        return Scale(1.0, 0.0)
    return Scale(max(high - low, 1e-6) / (2 * _LARGEST), (high + low) / 2)


def pack_plane(stored: np.ndarray) -> str:
    """A slice (rows, columns) of int16 as base64 of deflated bytes.

    Each row is replaced by its differences from left to right (modulo 2^16), then all low bytes stand before all high
    bytes: both make the slices of a CT about a fifth smaller. ``report.js`` undoes it.
    """
    differences = stored.astype(np.uint16)
    differences[:, 1:] -= stored.astype(np.uint16)[:, :-1]
    planes = np.stack([differences & 0xFF, differences >> 8]).astype(np.uint8)
    return pack_bytes(planes.tobytes())


def unpack_plane(text: str, rows: int, columns: int) -> np.ndarray:
    """The inverse of `pack_plane`: (rows, columns) int16."""
    low, high = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, rows, columns)
    differences = low.astype(np.uint16) | (high.astype(np.uint16) << 8)
    return np.cumsum(differences, axis=1, dtype=np.uint16).astype(np.int16)


def pack_mask(mask: np.ndarray) -> str:
    """A mask (rows, columns) as base64 of deflated bits, eight pixels per byte, the first in the highest bit."""
    return pack_bytes(np.packbits(mask).tobytes())


def pack_bytes(content: bytes) -> str:
    """Bytes as base64 of deflated bytes."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def pack_nifti(stored: np.ndarray, geometry: Geometry, scale: Scale, level: int = 6) -> bytes:
    """A volume (z, y, x) of int16 as the bytes of a .nii.gz file.

    Parameters
    ----------
    level
        Level of gzip: 1 is quick (for the local server), 9 is small (for a page).
    """
    head = _nifti_header(geometry, scale)
    return gzip.compress(head + stored.astype("<i2").tobytes(), level, mtime=0)


def _nifti_header(geometry: Geometry, scale: Scale) -> bytes:
    """NIfTI-1 header of 352 bytes: its world is RAS, that of `Geometry` is LPS, so x and y change sign."""
    spacing = geometry.spacing[::-1]
    affine = np.zeros((3, 4))
    affine[:, :3] = geometry.matrix * np.asarray(spacing)
    affine[:, 3] = geometry.origin
    affine[:2] *= -1
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *geometry.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, _INT16, 16)
    struct.pack_into("<8f", head, 76, 1, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", head, 108, 352, scale.slope, scale.intercept)
    head[123] = _MILLIMETRES
    struct.pack_into("<hh", head, 252, 0, _SCANNER)
    struct.pack_into("<12f", head, 280, *affine.ravel())
    head[344:348] = b"n+1\0"
    return bytes(head)


def _whole(array: np.ndarray) -> bool:
    return bool(np.equal(array, np.rint(array)).all())
