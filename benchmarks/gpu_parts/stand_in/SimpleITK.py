"""A stand-in for SimpleITK where no file is read: it can be imported, and says what is missing where it is used."""

from __future__ import annotations

from typing import NoReturn


class Image:
    """No image is one of these."""


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"SimpleITK.{name} is not here: this is the stand-in of benchmarks/gpu_proof.py")
