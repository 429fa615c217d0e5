"""From a CT to its scan with few views: projection, noise, filtered back-projection."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from gdmunet.errors import GdmError
from gdmunet.geometry import AxisMap, Geometry, Shape, canonical_axes
from gdmunet.host_memory import check_memory
from gdmunet.hounsfield import HU_RANGE
from gdmunet.imageio import Volume
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.attenuation import hu_to_mu, mu_to_hu
from gdmunet.tomography.backends import Backend, make_backend
from gdmunet.tomography.noise import add_noise
from gdmunet.tomography.scan_geometry import ScanGeometry, plan_geometry
from gdmunet.tomography.sinogram import ScanHeader, Sinogram


@dataclass(frozen=True)
class SimulatedScan:
    """A simulated scan; arrays (z, y, x) on the grid of the CT.

    Attributes
    ----------
    sinogram
        Projections, noisy if the settings ask for noise.
    reconstruction
        float32 in HU, clipped to what a scanner stores; -1000 outside the field of view.
    field_of_view
        bool.
    """

    sinogram: Sinogram
    reconstruction: np.ndarray
    field_of_view: np.ndarray


def stored_ct(ct: Volume) -> Volume:
    """A CT as a scanner stores it, which is scanned and is a data set's target: whole HU in int16, clipped."""
    return Volume(np.rint(ct.array.clip(*HU_RANGE)).astype(np.int16), ct.geometry)


def simulate_scan(ct: Volume, settings: ScanSpec, identifier: str, device: str = "cpu") -> SimulatedScan:
    """Scan a CT in HU. Slices are axial, whatever the axes of the file; lengths are mm.

    Raises
    ------
    GdmError
        Axial pixels that are not square, a source inside the patient, or a back end that cannot do it.
    """
    sinogram = project_volume(ct, settings, identifier, device)
    noisy = Sinogram(sinogram.header, add_noise(sinogram.projections, settings, identifier))
    return SimulatedScan(noisy, reconstruct_volume(noisy, device), field_of_view_of(noisy.header))


def project_volume(ct: Volume, settings: ScanSpec, identifier: str, device: str = "cpu") -> Sinogram:
    """Line integrals of a CT in HU, without noise; outside a declared field of view there is vacuum."""
    axes, grid = _canonical(ct.geometry)
    scan = plan_geometry(settings, grid.shape[1:], grid.spacing, identifier)
    _check_room(scan, grid.shape, identifier)
    backend = make_backend(settings, scan, grid.shape[0], grid.spacing[0], device)
    attenuation = hu_to_mu(torch.from_numpy(np.ascontiguousarray(axes.apply(ct.array), np.float32)), settings.mu_water)
    projections = backend.project(attenuation * scan.inside() if scan.field_of_view else attenuation)
    return Sinogram(ScanHeader(settings, scan, ct.geometry), projections)


def _check_room(scan: ScanGeometry, shape: Shape, identifier: str) -> None:
    """Refuse a scan whose projections and volume do not fit into memory, before they are allocated."""
    views = (shape[0], len(scan.angles), scan.bins)
    check_memory(
        4 * (math.prod(views) + 2 * math.prod(shape)),
        views,
        "the projections",
        "check the voxel size of the CT; or declare a field of view (--field-of-view), or take fewer views",
        identifier,
    )


def reconstruct_volume(sinogram: Sinogram, device: str = "cpu") -> np.ndarray:
    """Filtered back-projection (z, y, x) in HU, float32, on the sinogram's grid."""
    header = sinogram.header
    _, grid = _canonical(header.grid)
    backend = _backend_of(header, grid, device)
    if header.scan.beam != "cone" and len(sinogram.projections) != grid.shape[0]:
        raise GdmError(
            "the sinogram and its grid differ in their number of slices",
            found=len(sinogram.projections),
            expected=grid.shape[0],
            remedy="give the grid that the sinogram was measured for",
        )
    return hu_of(backend.reconstruct(sinogram.projections), header)


def field_of_view_of(header: ScanHeader) -> np.ndarray:
    """bool (z, y, x) on the grid of the volume."""
    axes, grid = _canonical(header.grid)
    inside = np.broadcast_to(header.scan.inside().numpy(), grid.shape)
    return np.ascontiguousarray(axes.inverse().apply(inside))


def attenuation_of(hu: np.ndarray, header: ScanHeader) -> torch.Tensor:
    """Attenuation in 1/mm (slices, y, x) as the scan sees it, of a volume (z, y, x) in HU on the header's grid."""
    return hu_to_mu(slices_of(hu.astype(np.float32), header), header.settings.mu_water) * header.scan.inside()


def slices_of(array: np.ndarray, header: ScanHeader) -> torch.Tensor:
    """The axial slices (slices, y, x) of a volume (z, y, x) on the header's grid."""
    axes, _ = _canonical(header.grid)
    return torch.from_numpy(np.ascontiguousarray(axes.apply(array)))


def hu_of(attenuation: torch.Tensor, header: ScanHeader) -> np.ndarray:
    """The inverse of `attenuation_of`: HU (z, y, x) float32, clipped to what a scanner stores."""
    axes, _ = _canonical(header.grid)
    hu = mu_to_hu(attenuation, header.settings.mu_water).clip(*HU_RANGE)
    return np.ascontiguousarray(axes.inverse().apply(hu.numpy()))


def _canonical(geometry: Geometry) -> tuple[AxisMap, Geometry]:
    axes = canonical_axes(geometry)
    return axes, axes.apply_to_geometry(geometry)


def _backend_of(header: ScanHeader, grid: Geometry, device: str) -> Backend:
    scan: ScanGeometry = header.scan
    return make_backend(header.settings, scan, grid.shape[0], grid.spacing[0], device)
