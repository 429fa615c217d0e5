"""Arrays of the case store: only what is asked for is read, and a damaged file is named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

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
    """Some channels of a stored array; indexing reads only what is asked for and gives a NumPy array.

    Parameters
    ----------
    array
        Stored array (channels, z, y, x).
    start, stop
        Range of the channels that are seen.
    """

    def __init__(self, array: StoredArray, start: int, stop: int) -> None:
        self._array, self._start = array, start
        self.shape = (stop - start, *array.shape[1:])
        self.dtype, self.ndim = array.dtype, array.ndim

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
        return self._array[(channel, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)
