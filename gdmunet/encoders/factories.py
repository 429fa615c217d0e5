"""Encoders that a user writes: a factory named as ``package.module:factory`` or ``file.py:factory``."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.errors import GdmError

# build(weight file or None, units of the volumes, 2 or 3, whether pickles are trusted)
Builder = Callable[[Path | None, VolumeUnits, int, bool], FrozenEncoder]


def own_factory(spec: str) -> Builder:
    """Import the function that `spec` names; a file is run, so it must be one that the user trusts."""
    place, _, function = spec.rpartition(":")
    try:
        if place.endswith(".py"):
            description = importlib.util.spec_from_file_location(f"gdmunet_encoder_{Path(place).stem}", place)
            if description is None or description.loader is None:
                raise ImportError(f"{place} is not a Python file")
            module = importlib.util.module_from_spec(description)
            description.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        factory: Builder = getattr(module, function)
        return factory
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise GdmError(
            f"the encoder factory {spec} cannot be loaded: {error}", remedy="check its path and name"
        ) from error
