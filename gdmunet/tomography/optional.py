"""Packages that a back end needs beside gdmunet's own dependencies."""

from __future__ import annotations

import importlib
from types import ModuleType

from gdmunet.errors import GdmError


def require_package(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    module
        Name of the module to import.
    extra
        Extra of gdmunet that installs it; also the name of the back end.

    Raises
    ------
    GdmError
        The package is not installed or cannot be loaded; the remedy is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package(extra, str(error)) from error


def missing_package(extra: str, found: str) -> GdmError:
    """The error for a back end whose package is missing; `found` says what was there instead."""
    return GdmError(
        f"the back end {extra} is not installed",
        found=found,
        remedy=f"pip install 'gdmunet[{extra}]', or choose --backend torch",
    )
