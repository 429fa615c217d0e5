"""The formats that there are: every file of this folder that names a ``FORMAT``."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from gdmunet import volume_formats
from gdmunet.volume_formats.interface import VolumeFormat
from gdmunet.volume_formats.itk import FORMAT as ITK

_OTHERS = ("files", "interface", "itk", "nifti", "table")


def _find_formats() -> tuple[VolumeFormat, ...]:
    names = sorted(
        module.name for module in pkgutil.iter_modules(volume_formats.__path__) if module.name not in _OTHERS
    )
    modules = [importlib.import_module(f"{volume_formats.__name__}.{name}") for name in names]
    return (ITK, *(module.FORMAT for module in modules))


FORMATS = _find_formats()
FILE_ENDINGS = tuple(ending for one in FORMATS for ending in one.endings)


def ending_of(path: Path) -> str | None:
    """The known ending of a file's name; None for files of other kinds."""
    return next((ending for ending in FILE_ENDINGS if path.name.endswith(ending)), None)


def format_of(path: Path) -> VolumeFormat:
    """The format of a file by its ending; ITK's for other endings, of which it knows some more."""
    return next((one for one in FORMATS if path.name.endswith(one.endings)), ITK)


def companions_of(ending: str) -> tuple[str, ...]:
    """Endings of the files that lie beside one of that ending and hold its voxels."""
    return next((one.companions.get(ending, ()) for one in FORMATS if ending in one.endings), ())
