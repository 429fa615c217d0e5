"""A file format of volumes in one file, as the recipe asks for: arrays and their grid in a NumPy archive, ``.foo``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.volume_formats.interface import VolumeFormat


class ToyFormat(VolumeFormat):
    endings = (".foo",)

    def read(self, path: Path) -> tuple[np.ndarray, Geometry]:
        try:
            with np.load(path) as held:
                array = held["array"]
                return array, Geometry(array.shape, *(tuple(held[name]) for name in ("spacing", "origin", "direction")))
        except (OSError, ValueError, KeyError) as error:
            raise GdmError("the file cannot be read", found=error, remedy="write it again") from error

    def write(self, path: Path, array: np.ndarray, geometry: Geometry) -> None:
        grid = {name: getattr(geometry, name) for name in ("spacing", "origin", "direction")}
        with open(path, "wb") as file:  # np.savez adds its own ending to a name
            np.savez(file, array=array, **grid)


FORMAT = ToyFormat()
