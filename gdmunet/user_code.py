"""Code of the user's own, named as ``file.py:name`` or ``package.module:name``, imported because the user said so.

A name on a command line, or in a Python call, is the user's wish. A name that stands in data is not: who reads one
there asks `gdmunet.consents` first.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gdmunet.errors import GdmError


def import_user_module(place: str, what: str) -> ModuleType:
    """Run a file, or import a module, that holds the user's own code.

    Parameters
    ----------
    place
        ``file.py`` or ``package.module``.
    what
        Kind of code in words, such as ``trainer``.

    Raises
    ------
    GdmError
        A missing file, or a module that cannot be found. Errors of the code itself go on as they are.
    """
    return _run_file(Path(place), what) if place.endswith(".py") else _import_module(place, what)


def _run_file(file: Path, what: str) -> ModuleType:
    if not file.is_file():
        raise GdmError(f"the {what}'s file is missing", file=file.resolve(), remedy="check the path")
    specification = importlib.util.spec_from_file_location(f"gdm_user_{file.stem}", file.resolve())
    if specification is None or specification.loader is None:
        raise GdmError(f"the {what}'s file is not a Python module", file=file, remedy="give a file that ends in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def _import_module(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise GdmError(
            f"the {what}'s module {name} cannot be imported: {error}",
            remedy="check the name, and that the module can be imported where the command runs",
        ) from error
