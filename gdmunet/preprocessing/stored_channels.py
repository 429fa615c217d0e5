"""Channels of a prepared case as words of 16 bits, and back: what a file of the case store holds of each channel.

A channel of ``int16`` is one plane of raw values (HU), rounded; one of ``float16`` is one plane of network units; one
of ``float32`` is two planes, the lower and the upper half of each number. A case of float32 alone is stored as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.preprocessing.normalization import IntensityMap
from gdmunet.storage_spec import StoredType

_INT16 = np.iinfo(np.int16)
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class StoredChannel:
    """One channel: its type in the file, and its map from raw values to network units."""

    type: StoredType
    intensity: IntensityMap

    @property
    def planes(self) -> int:
        """Words of 16 bits for each voxel."""
        return 2 if self.type == "float32" else 1

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Network units (z, y, x) float32 as planes (planes, z, y, x) int16."""
        if self.type == "int16":
            rounded: np.ndarray = np.rint(self._raw(values)).astype(np.int16)
            return rounded[None]
        if self.type == "float16":
            return values.astype(np.float16).view(np.int16)[None]
        words = np.ascontiguousarray(values, np.float32).view(np.int16).reshape(*values.shape, 2)
        return np.moveaxis(words, -1, 0)

    def decode(self, words: np.ndarray, out: np.ndarray) -> None:
        """Planes (planes, ...) int16 of any part of a volume into network units (...) float32."""
        if self.type == "int16":  # the operations of IntensityMap.apply: whole numbers give the same bits
            out[...] = words[0]
            out -= np.float32(self.intensity.offset)
            out /= np.float32(self.intensity.scale)
        elif self.type == "float16":
            out[...] = words[0].view(np.float16)
        else:
            out[...] = np.ascontiguousarray(np.moveaxis(words, 0, -1)).view(np.float32)[..., 0]

    def fitting(self, values: np.ndarray) -> StoredChannel:
        """This channel if its type holds the values, else in float32; nothing is ever clipped to fit."""
        if self.type == "int16":
            extremes = self._raw(np.array([values.min(), values.max()]))
            fits = _INT16.min <= np.rint(extremes[0]) and np.rint(extremes[1]) <= _INT16.max
        else:
            fits = self.type == "float32" or float(np.abs(values).max()) <= _LARGEST_FLOAT16
        return self if fits else StoredChannel("float32", self.intensity)

    def _raw(self, values: np.ndarray) -> np.ndarray:
        """Raw values without the clip range of the map, which the values have seen already."""
        raw: np.ndarray = np.multiply(values, np.float32(self.intensity.scale), dtype=np.float32)
        raw += np.float32(self.intensity.offset)
        return raw


def encode(values: Sequence[np.ndarray], channels: Sequence[StoredChannel]) -> np.ndarray:
    """All channels (z, y, x) of a case as one array: float32 if all are, else int16 words (planes, z, y, x)."""
    if all(channel.type == "float32" for channel in channels):
        return np.stack(values)
    planes = sum(channel.planes for channel in channels)
    words, start = np.empty((planes, *values[0].shape), np.int16), 0
    for array, channel in zip(values, channels, strict=True):
        words[start : start + channel.planes] = channel.encode(array)
        start += channel.planes
    return words
