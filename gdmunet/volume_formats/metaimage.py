"""MetaImage: a header of text lines and its voxels, in one file (.mha) or beside it (.mhd with .raw or .zraw).

The header is read here and not by ITK, whose reader ends the process on one that is made to harm it.
"""

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
# Type in a header to NumPy's name.
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_LAST = "ElementDataFile"


class MetaImageFormat(HeadedFormat):
    """MetaImage, read by its own header and written by ITK."""

    endings = (".mha", ".mhd")
    companions: Mapping[str, tuple[str, ...]] = {".mhd": (".raw", ".zraw")}

    def header(self, path: Path) -> _Header:
        """Read the header alone."""
        return _read_header(path)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The header, and the file of voxels that it names."""
        header = _read_header(path)
        return (path,) if header.is_local else (path, data_file(path, header.words[_LAST]))


FORMAT = MetaImageFormat()


@dataclass(frozen=True)
class _Header:
    words: dict[str, str]
    end: int  # bytes of the header

    @property
    def is_local(self) -> bool:
        return self.words[_LAST].lower() == "local"

    def payload(self, path: Path) -> Payload:
        """Where the voxels lie.

        Raises
        ------
        GdmError
            A header that does not describe one volume of numbers.
        """
        import numpy as np

        from gdmunet.volume_formats.payload import Payload, checked_shape, not_a_volume_error

        axes = self._whole("NDims")
        if not 1 <= axes <= 10:
            raise header_error("the number of axes cannot be right", f"NDims = {axes}", "3")
        shape = checked_shape([_whole("DimSize", word) for word in self._words("DimSize", axes)])
        if (values := self._whole("ElementNumberOfChannels", "1")) != 1:
            raise not_a_volume_error(f"{values} values per voxel")
        kind = self.words.get("ElementType", "")
        if kind not in _TYPES:
            raise header_error("its type is unknown", f"ElementType = {kind}", ", ".join(_TYPES))
        if not self._switch("BinaryData", "True"):
            raise header_error("its voxels are text", "BinaryData = False", "binary voxels")
        if self.words.get("ElementToIntensityFunctionSlope", "1").strip() not in ("1", "1.0"):
            raise header_error("its values are scaled, which no reader applies", "ElementToIntensityFunctionSlope", "1")
        order = ">" if self._switch("BinaryDataByteOrderMSB", self.words.get("ElementByteOrderMSB", "False")) else "<"
        packed = self._switch("CompressedData", "False")
        skip = self._whole("HeaderSize", "0")
        start = None if skip == -1 and not packed else max(0, skip) + (self.end if self.is_local else 0)
        file = path if self.is_local else data_file(path, self.words[_LAST])
        return Payload(file, start, "zlib" if packed else "none", np.dtype(order + _TYPES[kind]), shape)

    def geometry(self, shape: tuple[int, ...]) -> Geometry:
        """The grid; a header that names no spacing has 1 mm, as for ITK."""
        import numpy as np

        from gdmunet.geometry import Geometry, check_voxel_size, triple

        spacing = self._numbers(("ElementSpacing", "ElementSize"), "1 1 1")
        check_voxel_size(triple(spacing[::-1]))
        origin = self._numbers(("Offset", "Position", "Origin"), "0 0 0")
        rows = self._numbers(("TransformMatrix", "Rotation", "Orientation"), "1 0 0 0 1 0 0 0 1", 9)
        columns = np.reshape(rows, (3, 3)).T  # each row of the file is the direction of an axis
        return Geometry(triple(shape), triple(spacing[::-1]), triple(origin), tuple(columns.ravel().tolist()))

    def _words(self, key: str, count: int) -> list[str]:
        words = self.words.get(key, "").split()
        if len(words) != count:
            raise header_error("an entry is missing or of another length", f"{key} = {self.words.get(key)}", count)
        return words

    def _numbers(self, keys: tuple[str, ...], default: str, count: int = 3) -> tuple[float, ...]:
        key = next((one for one in keys if one in self.words), keys[0])
        words = self.words.get(key, default).split()
        try:
            values = tuple(float(word) for word in words)
        except ValueError:
            raise header_error("an entry is not numbers", f"{key} = {self.words[key]}") from None
        if len(values) != count:
            raise header_error("an entry is of another length", f"{key} = {self.words[key]}", f"{count} numbers")
        return values

    def _whole(self, key: str, default: str | None = None) -> int:
        return _whole(key, self.words.get(key, default))

    def _switch(self, key: str, default: str) -> bool:
        return self.words.get(key, default).strip().lower() in ("true", "1", "t")


def _whole(key: str, word: str | None) -> int:
    if word is None or not re.fullmatch(r"-?[0-9]{1,18}", word.strip()):
        raise header_error("an entry is not a whole number", f"{key} = {word}")
    return int(word)


def _read_header(path: Path) -> _Header:
    with open(path, "rb") as file:
        start = file.read(_LONGEST_HEADER)
    words, place = dict[str, str](), 0
    while (end := start.find(b"\n", place)) >= 0:
        key, found, value = start[place:end].decode("utf-8", "replace").partition("=")
        place = end + 1
        if not found:
            raise unreadable_error("not a header of lines KEY = VALUE")
        words[key.strip()] = value.strip()
        if key.strip() == _LAST:
            return _Header(words, place)
    raise unreadable_error(f"a header without {_LAST}")
