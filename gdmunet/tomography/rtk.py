"""Cone beams through RTK (itk-rtk): Joseph's projector and the Feldkamp-Davis-Kress reconstruction, on the CPU."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import torch

from gdmunet.errors import GdmError
from gdmunet.scan_spec import FilterName
from gdmunet.tomography.optional import missing_package, require_package
from gdmunet.tomography.scan_geometry import ScanGeometry

# Distance of source and detector over that of source and axis: RTK adds up attenuation between source and detector
# alone, so the detector must lie behind the patient.
MAGNIFICATION = 2.0


def _module(itk: ModuleType) -> ModuleType:
    """ITK loads its modules when they are first asked for."""
    try:
        module: ModuleType = itk.RTK
    except AttributeError as error:
        raise missing_package("rtk", "itk without the module RTK") from error
    return module


class RtkBackend:
    """A flat detector whose bins and rows are counted on the rotation axis, with as many rows as the cone needs.

    RTK turns about its y axis: (z, y, x) of gdmunet are its (y, z, x).
    """

    def __init__(self, geometry: ScanGeometry, filter_name: FilterName, slices: int, slice_spacing: float) -> None:
        if filter_name == "shepp-logan":
            raise GdmError(
                "the back end rtk has two filters",
                found=filter_name,
                expected="ramp or hann",
                remedy="choose one of the two, or the back end torch",
            )
        self.itk = require_package("itk", "rtk")
        self.rtk = _module(self.itk)
        self.geometry, self.filter, self.slices, self.slice_spacing = geometry, filter_name, slices, slice_spacing
        source = geometry.source_to_axis
        assert source is not None  # a cone has a source
        radius = geometry.pixel * math.hypot(*geometry.slice_shape) / 2
        if geometry.field_of_view is not None:
            radius = min(radius, geometry.field_of_view / 2)
        # As many more on both sides, so that a slice in the middle has its row.
        self.rows = slices + 2 * math.ceil(slices / 2 * radius / (source - radius) + 1)
        self.turn = self.rtk.ThreeDCircularProjectionGeometry.New()
        for degrees in geometry.angles:
            self.turn.AddProjection(source, MAGNIFICATION * source, degrees)

    def project(self, attenuation: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        kind = self.itk.Image[self.itk.F, 3]
        joseph = self.rtk.JosephForwardProjectionImageFilter[kind, kind].New()
        joseph.SetGeometry(self.turn)
        joseph.SetInput(self._stack(np.zeros((self.geometry.views, self.rows, self.geometry.bins), np.float32)))
        joseph.SetInput(1, self._volume(attenuation.numpy()))
        joseph.Update()
        stack = self.itk.array_from_image(joseph.GetOutput())
        return torch.from_numpy(np.ascontiguousarray(stack.transpose(1, 0, 2)))

    def reconstruct(self, sinogram: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        kind = self.itk.Image[self.itk.F, 3]
        fdk = self.rtk.FDKConeBeamReconstructionFilter[kind].New()
        fdk.SetGeometry(self.turn)
        fdk.SetInput(0, self._volume(np.zeros((self.slices, *self.geometry.slice_shape), np.float32)))
        fdk.SetInput(1, self._stack(sinogram.numpy().transpose(1, 0, 2)))
        if self.filter == "hann":
            fdk.GetRampFilter().SetHannCutFrequency(1.0)
        fdk.Update()
        reconstruction = self.itk.array_from_image(fdk.GetOutput()).transpose(1, 0, 2)
        return torch.from_numpy(np.ascontiguousarray(reconstruction)) * self.geometry.inside()

    def _volume(self, array: np.ndarray):  # type: ignore[no-untyped-def]
        """An array (z, y, x) as an ITK image, whose (x, y, z) are its (x, z, y), about the rotation axis."""
        height, width = self.geometry.slice_shape
        pixel = self.geometry.pixel
        image = self.itk.image_from_array(np.ascontiguousarray(array.transpose(1, 0, 2), np.float32))
        image.SetSpacing([pixel, self.slice_spacing, pixel])
        middle = (self.slices - 1) / 2 * self.slice_spacing
        image.SetOrigin([-(width // 2) * pixel, -middle, -(height // 2) * pixel])
        return image

    def _stack(self, array: np.ndarray):  # type: ignore[no-untyped-def]
        """(views, rows, bins) as an ITK image of projections."""
        image = self.itk.image_from_array(np.ascontiguousarray(array, np.float32))
        bin_size, row_size = MAGNIFICATION * self.geometry.bin_size, MAGNIFICATION * self.slice_spacing
        image.SetSpacing([bin_size, row_size, 1.0])
        image.SetOrigin([-(self.geometry.bins // 2) * bin_size, -(self.rows - 1) / 2 * row_size, 0.0])
        return image
