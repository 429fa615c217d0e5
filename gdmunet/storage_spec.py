"""The number types in which prepared channels are stored, as plans hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StoredType = Literal["int16", "float16", "float32"]


@dataclass(frozen=True)
class StorageSpec:
    """Number types of the prepared channels.

    ``int16`` holds raw values (Hounsfield units) rounded to whole numbers, which are normalised when they are read;
    ``float16`` and ``float32`` hold network units. A case whose values do not fit keeps that channel in float32.

    Attributes
    ----------
    conditions
        Type of each condition channel.
    target
        Type of the target.
    """

    conditions: tuple[StoredType, ...]
    target: StoredType
