"""NRRD: a header of text lines and voxels, in one file (.nrrd) or beside it (.nhdr, or by a field `data file`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.volume_formats.detached import data_file
from gdmunet.volume_formats.headed import HeadedFormat
from gdmunet.volume_formats.interface import header_error, unreadable_error

if TYPE_CHECKING:
    from gdmunet.geometry import Geometry
    from gdmunet.volume_formats.payload import Payload

_LONGEST_HEADER = 1 << 20
_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_KINDS = {word: kind for kind, words in _TYPES.items() for word in words.split(", ")}
_PACKINGS: Mapping[str, str] = {"raw": "none", "gzip": "gzip", "gz": "gzip"}
# Signs that turn the (x, y, z) of a space into those of LPS.
_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
    "scanner-xyz": (1, 1, 1), "3d-right-handed": (1, 1, 1), "3d-left-handed": (1, 1, 1),
}  # fmt: skip
# Kinds of axes that run through space; others hold several values of one voxel.
_THROUGH_SPACE = ("domain", "space", "???", "none")
# Another spelling of a field to the one used here.
_SPELLINGS = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip", "axismins": "axis mins"}


class NrrdFormat(HeadedFormat):
    """NRRD, read by its own header and written by ITK."""

    endings = (".nrrd", ".nhdr")
    companions: Mapping[str, tuple[str, ...]] = {".nhdr": (".raw", ".raw.gz")}

    def header(self, path: Path) -> _Header:
        """Read the header alone."""
        return _read_header(path)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The header, and the file of voxels that it names."""
        name = _read_header(path).fields.get("data file")
        return (path,) if name is None else (path, data_file(path, name))


FORMAT = NrrdFormat()


@dataclass(frozen=True)
class _Header:
    fields: dict[str, str]
    end: int  # bytes of the header

    def payload(self, path: Path) -> Payload:
        """Where the voxels lie.

        Raises
        ------
        GdmError
            A header that does not describe one volume of numbers.
        """
        import numpy as np

        from gdmunet.volume_formats.payload import Payload, checked_shape

        kind = self.fields.get("type", "").lower()
        if kind not in _KINDS:
            raise header_error("its type is unknown", f"type: {kind}", ", ".join(_KINDS))
        axes = _whole("dimension", self.fields.get("dimension", ""))
        sizes = [_whole("sizes", word) for word in self.fields.get("sizes", "").split()]
        if not 1 <= axes <= 16 or axes != len(sizes):
            raise header_error("the number of axes cannot be right", f"dimension: {axes}, {len(sizes)} sizes", "3")
        shape = checked_shape(sizes)
        self._check_axes()
        packing = _PACKINGS.get(self.fields.get("encoding", "").lower())
        if packing is None:
            raise header_error("its encoding is not read", f"encoding: {self.fields.get('encoding')}", "raw or gzip")
        if self.fields.get("line skip", "0") != "0":
            raise header_error("its voxels begin after lines of text", f"line skip: {self.fields['line skip']}", "0")
        skip = _whole("byte skip", self.fields.get("byte skip", "0"))
        order = "<" if self.fields.get("endian", "little").lower() == "little" else ">"
        name = self.fields.get("data file")
        file, start = (path, self.end) if name is None else (data_file(path, name), 0)
        what = np.dtype(order + _KINDS[kind])
        if packing == "none":
            return Payload(file, None if skip == -1 else start + skip, "none", what, shape)
        return Payload(file, start, "gzip", what, shape, max(0, skip))

    def geometry(self, shape: tuple[int, ...]) -> Geometry:
        """The grid, in LPS whatever the space of the file; without a space it has only spacings, as for ITK."""
        import numpy as np

        from gdmunet.geometry import Geometry, check_voxel_size, triple

        if "space directions" not in self.fields:
            spacing = _numbers("spacings", self.fields.get("spacings", "1 1 1"))
            check_voxel_size(triple(spacing[::-1]))
            return Geometry(triple(shape), triple(spacing[::-1]))
        space = self.fields.get("space", "").lower()
        if space not in _SPACES:
            raise header_error("its space is not that of a patient", f"space: {space}", "left-posterior-superior")
        signs = np.array(_SPACES[space], dtype=float)
        vectors = np.array([_vector("space directions", word) for word in _vectors(self.fields["space directions"])])
        if vectors.shape != (3, 3):
            raise header_error("an axis has no direction", f"space directions: {self.fields['space directions']}")
        lengths = np.sqrt((vectors * vectors).sum(axis=1))
        check_voxel_size(triple(lengths[::-1].tolist()))
        columns = (vectors / lengths[:, None] * signs).T
        origin = signs * _vector("space origin", self.fields.get("space origin", "(0,0,0)"))
        return Geometry(
            triple(shape),
            triple(lengths[::-1].tolist()),
            triple(origin.tolist()),
            tuple((columns + 0.0).ravel().tolist()),  # no negative zero
        )

    def _check_axes(self) -> None:
        from gdmunet.volume_formats.payload import not_a_volume_error

        kinds = self.fields.get("kinds", "").split()
        if any(kind.lower() not in _THROUGH_SPACE for kind in kinds):
            raise not_a_volume_error(f"kinds: {' '.join(kinds)[:80]}")
        units = [word.strip('"').lower() for word in self.fields.get("space units", "").split()]
        if any(unit not in ("mm", "", "none", "millimeter", "millimeters") for unit in units):
            raise header_error("its unit of length is not mm", f"space units: {self.fields['space units']}", '"mm"')


def _read_header(path: Path) -> _Header:
    with open(path, "rb") as file:
        start = file.read(_LONGEST_HEADER)
    if not start.startswith(b"NRRD000"):
        raise unreadable_error("it does not begin with NRRD000")
    fields, place = dict[str, str](), start.find(b"\n") + 1
    while 0 < place < len(start):
        end = start.find(b"\n", place)
        end = len(start) if end < 0 else end
        line = start[place:end].rstrip(b"\r").decode("utf-8", "replace")
        place = end + 1
        if not line:
            return _Header(fields, place)
        name, found, value = line.partition(": ")
        if line.startswith("#") or ":=" in line:
            continue
        if not found:
            raise unreadable_error("not a header of lines FIELD: VALUE")
        name = name.strip().lower()
        fields[_SPELLINGS.get(name, name)] = value.strip()
    if "data file" not in fields:  # only a header whose voxels lie elsewhere may end with its file
        raise unreadable_error("a header without an end")
    return _Header(fields, len(start))


def _whole(name: str, word: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", word):
        raise header_error("a field is not a whole number", f"{name}: {word}")
    return int(word)


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise header_error("a field is not numbers", f"{name}: {text}") from None
    if len(values) != 3:
        raise header_error("a field is of another length", f"{name}: {text}", "3 numbers")
    return values


def _vector(name: str, text: str) -> tuple[float, ...]:
    return _numbers(name, text.strip().strip("()"))


def _vectors(text: str) -> list[str]:
    """The vectors of ``(1,0,0) (0,1,0) none``."""
    return [part for part in text.replace(" ", "").replace(")", ") ").split() if part.startswith("(")]
