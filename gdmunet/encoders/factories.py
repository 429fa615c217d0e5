"""Encoders that a user writes: a factory named as ``package.module:factory`` or ``file.py:factory``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.errors import GdmError
from gdmunet.user_code import import_user_module

# build(weight file or None, units of the volumes, 2 or 3, whether pickles are trusted)
Builder = Callable[[Path | None, VolumeUnits, int, bool], FrozenEncoder]


def own_factory(spec: str) -> Builder:
    """Import the function that `spec` names; a file is run, so it must be one that the user trusts."""
    place, _, function = spec.rpartition(":")
    try:
        factory: Builder = getattr(import_user_module(place, "encoder"), function)
        return factory
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise GdmError(
            f"the encoder factory {spec} cannot be loaded: {error}", remedy="check its path and name"
        ) from error
