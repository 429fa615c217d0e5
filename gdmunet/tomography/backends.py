"""The programs that can project and reconstruct, behind one interface: torch (built in), scikit-image, ASTRA, RTK."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import skimage
import torch

from gdmunet.errors import GdmError
from gdmunet.scan_spec import BackendName, FilterName, ScanSpec
from gdmunet.tomography.optional import require_package
from gdmunet.tomography.projector import Projector
from gdmunet.tomography.reconstruction import filtered_back_projection
from gdmunet.tomography.scan_geometry import ScanGeometry


class Backend(Protocol):
    """Projects attenuations (z, y, x) in 1/mm to line integrals (rows, views, bins), and reconstructs them.

    Rows are the slices, except for cone beams, whose detector has its own.
    """

    def project(self, attenuation: torch.Tensor) -> torch.Tensor:
        """Line integrals, float32."""

    def reconstruct(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Filtered back-projection in 1/mm, float32; 0 outside a declared field of view."""


@functools.lru_cache(maxsize=1)
def make_backend(
    settings: ScanSpec, geometry: ScanGeometry, slices: int, slice_spacing: float, device: str = "cpu"
) -> Backend:
    """The back end that `settings` name, for volumes of this number and thickness of slices.

    The last one is kept, because the next case often has the same geometry.

    Raises
    ------
    GdmError
        Not installed, or it cannot do this beam.
    """
    _check(settings.backend, geometry)
    if settings.backend == "skimage":
        return SkimageBackend(geometry, settings.filter)
    if settings.backend == "astra":
        return AstraBackend(geometry, settings.filter)
    if settings.backend == "rtk":
        from gdmunet.tomography.rtk import RtkBackend

        return RtkBackend(geometry, settings.filter, slices, slice_spacing)
    return TorchBackend(geometry, settings.filter, device)


def _check(name: BackendName, geometry: ScanGeometry) -> None:
    possible = {"torch": ("parallel", "fan"), "skimage": ("parallel",), "astra": ("parallel",), "rtk": ("cone",)}
    if geometry.beam not in possible[name]:
        able = [backend for backend, beams in possible.items() if geometry.beam in beams]
        raise GdmError(
            f"the back end {name} does not do {geometry.beam} beams",
            expected=" or ".join(possible[name]),
            remedy=f"choose --backend {able[0]}",
        )


class TorchBackend:
    """The built-in projector."""

    def __init__(self, geometry: ScanGeometry, filter_name: FilterName, device: str = "cpu") -> None:
        self.projector, self.filter = Projector(geometry, device), filter_name

    def project(self, attenuation: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return self.projector.project(attenuation.to(self.projector.device)).cpu()

    def reconstruct(self, sinogram: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return filtered_back_projection(sinogram.to(self.projector.device), self.projector, self.filter).cpu()


class _SquareBackend(ABC):
    """Slice after slice in a square of air whose middle pixel is the rotation axis; lengths in pixels."""

    def __init__(self, geometry: ScanGeometry, filter_name: FilterName) -> None:
        self.geometry, self.filter = geometry, filter_name
        self.side = 2 * (max(geometry.slice_shape) // 2) + 1
        height, width = geometry.slice_shape
        top, left = self.side // 2 - height // 2, self.side // 2 - width // 2
        self.part = slice(top, top + height), slice(left, left + width)
        self.degrees = np.asarray(geometry.angles)

    def project(self, attenuation: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        square = np.zeros((self.side, self.side), np.float32)
        rows = []
        for image in attenuation.numpy():
            square[self.part] = image
            rows.append(_fit(self._project(square), self.geometry.bins))
        return torch.from_numpy(np.stack(rows).astype(np.float32) * np.float32(self.geometry.pixel))

    def reconstruct(self, sinogram: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        bins = self.geometry.bins | 1
        images = [self._reconstruct(_fit(rows, bins))[self.part] for rows in sinogram.numpy()]
        reconstruction = torch.from_numpy(np.stack(images).astype(np.float32) / np.float32(self.geometry.pixel))
        return reconstruction * self.geometry.inside()

    @abstractmethod
    def _project(self, square: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _reconstruct(self, sinogram: np.ndarray) -> np.ndarray: ...


class SkimageBackend(_SquareBackend):
    """scikit-image's `radon` and `iradon`: the reference, slow."""

    def _project(self, square: np.ndarray) -> np.ndarray:
        projections: np.ndarray = skimage.transform.radon(square, self.degrees, circle=False).T
        return projections

    def _reconstruct(self, sinogram: np.ndarray) -> np.ndarray:
        image: np.ndarray = skimage.transform.iradon(sinogram.T, self.degrees, self.side, self.filter, circle=False)
        return image


class AstraBackend(_SquareBackend):
    """The ASTRA toolbox (GPL-3) on the CPU, with its linear projector."""

    _FILTERS: Mapping[str, str] = {"ramp": "ram-lak", "shepp-logan": "shepp-logan", "hann": "hann"}

    def __init__(self, geometry: ScanGeometry, filter_name: FilterName) -> None:
        super().__init__(geometry, filter_name)
        self.astra = require_package("astra", "astra")
        self.volume = self.astra.create_vol_geom(self.side, self.side)
        radians = np.deg2rad(self.degrees)
        self.rays = self.astra.create_proj_geom("parallel", 1.0, geometry.bins | 1, radians)
        self.projector = self.astra.create_projector("linear", self.rays, self.volume)

    def _project(self, square: np.ndarray) -> np.ndarray:
        number, projections = self.astra.create_sino(square, self.projector)
        self.astra.data2d.delete(number)
        return np.asarray(projections)

    def _reconstruct(self, sinogram: np.ndarray) -> np.ndarray:
        astra = self.astra
        given, made = astra.data2d.create("-sino", self.rays, sinogram), astra.data2d.create("-vol", self.volume)
        task = astra.astra_dict("FBP") | {
            "ProjectorId": self.projector,
            "ProjectionDataId": given,
            "ReconstructionDataId": made,
            "option": {"FilterType": self._FILTERS[self.filter]},
        }
        algorithm = astra.algorithm.create(task)
        try:
            astra.algorithm.run(algorithm)
            return np.asarray(astra.data2d.get(made))
        finally:
            astra.algorithm.delete(algorithm)
            astra.data2d.delete([given, made])


def _fit(sinogram: np.ndarray, bins: int) -> np.ndarray:
    """Cut or widen (views, bins) about the rotation axis, which lies on bin ``bins // 2`` before and after."""
    shift = bins // 2 - sinogram.shape[1] // 2
    first, last = max(0, shift), min(bins, shift + sinogram.shape[1])
    fitted = np.zeros((len(sinogram), bins), np.float32)
    fitted[:, first:last] = sinogram[:, first - shift : last - shift]
    return fitted
