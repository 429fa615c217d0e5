"""The formats that there are: every file of this folder that names a ``FORMAT``."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from gdmunet import volume_formats
from gdmunet.errors import GdmError
from gdmunet.volume_formats.interface import VolumeFormat
from gdmunet.volume_formats.metaimage import FORMAT as METAIMAGE
from gdmunet.volume_formats.nifti import FORMAT as NIFTI
from gdmunet.volume_formats.nrrd import FORMAT as NRRD

_OWN = (
    "detached",
    "files",
    "headed",
    "interface",
    "itk",
    "metaimage",
    "nifti",
    "nifti_header",
    "nrrd",
    "payload",
    "table",
)


def _find_formats() -> tuple[VolumeFormat, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(volume_formats.__path__) if module.name not in _OWN)
    modules = [importlib.import_module(f"{volume_formats.__name__}.{name}") for name in names]
    return (NIFTI, METAIMAGE, NRRD, *(module.FORMAT for module in modules))


FORMATS = _find_formats()
FILE_ENDINGS = tuple(ending for one in FORMATS for ending in one.endings)


def ending_of(path: Path) -> str | None:
    """The known ending of a file's name, in small letters however the name has it; None for files of other kinds."""
    return next((ending for ending in FILE_ENDINGS if path.name.lower().endswith(ending)), None)


def stem_of(path: Path) -> str:
    """The name of a volume file without its known ending."""
    return path.name[: len(path.name) - len(ending_of(path) or "")]


def format_of(path: Path) -> VolumeFormat:
    """The format of a file by its ending.

    Raises
    ------
    GdmError
        An ending of another format: a file is read only by a reader that has checked it.
    """
    ending = ending_of(path)
    for one in FORMATS:
        if ending in one.endings:
            return one
    raise GdmError(
        "the ending of the file is not that of a volume",
        file=path,
        found=path.name,
        expected=f"a name that ends in {', '.join(FILE_ENDINGS)}",
        remedy="convert the file to one of these formats",
    )


def companions_of(ending: str) -> tuple[str, ...]:
    """Endings of the files that lie beside one of that ending and hold its voxels."""
    return next((one.companions.get(ending, ()) for one in FORMATS if ending in one.endings), ())
