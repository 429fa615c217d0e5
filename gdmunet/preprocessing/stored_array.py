"""Arrays of the case store: only what is asked for is read, and a damaged file is named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from gdmunet.preprocessing.stored_channels import StoredChannel

if TYPE_CHECKING:
    import blosc2


class StoredArray:
    """An array on disk; indexing reads only what is asked for, and says which file is damaged.

    Parameters
    ----------
    array
        The open file.
    reading
        Gives the error of the damaged file for what is raised inside it.
    """

    def __init__(self, array: blosc2.NDArray, reading: Callable[[], AbstractContextManager[None]]) -> None:
        self._array, self._reading = array, reading
        self.shape, self.dtype, self.ndim = tuple(array.shape), array.dtype, array.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        with self._reading():
            return np.asarray(self._array[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


class LazyChannels:
    """Some channels of a stored array in network units; indexing reads only what is asked for and gives float32.

    Parameters
    ----------
    array
        Stored array: float32 (channels, z, y, x), or int16 words (planes, z, y, x).
    channels
        All channels of the array.
    start, stop
        Range of the channels that are seen.
    """

    def __init__(self, array: StoredArray, channels: Sequence[StoredChannel], start: int, stop: int) -> None:
        self._array, self._start = array, start
        self._channels = tuple(channels)
        self._planes = [0, *itertools.accumulate(channel.planes for channel in channels)]
        self.shape = (stop - start, *array.shape[1:])
        self.dtype, self.ndim = np.dtype(np.float32), array.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        if not keys or keys[0] is Ellipsis:
            keys = (slice(None), *keys)
        channel, rest = keys[0], keys[1:]
        if isinstance(channel, slice):
            start, stop, step = channel.indices(self.shape[0])
            channel = slice(start + self._start, stop + self._start, step)
        else:
            channel = range(self.shape[0])[channel] + self._start
        return self._array[(channel, *rest)] if self._array.dtype == np.float32 else self._decoded(channel, rest)

    def _decoded(self, channel: slice | int, rest: tuple[Any, ...]) -> np.ndarray:
        numbers = range(channel.start, channel.stop, channel.step) if isinstance(channel, slice) else (channel,)
        if not numbers:
            return np.empty((0, *self.shape[1:]), np.float32)[(slice(None), *rest)]
        first, last = min(numbers), max(numbers)
        offset = self._planes[first]
        words = self._array[(slice(offset, self._planes[last + 1]), *rest)]
        values = np.empty((len(numbers), *words.shape[1:]), np.float32)
        for place, number in enumerate(numbers):
            start, stop = self._planes[number] - offset, self._planes[number + 1] - offset
            self._channels[number].decode(words[start:stop], values[place : place + 1][0, ...])
        return values if isinstance(channel, slice) else values[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)
