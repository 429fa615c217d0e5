"""Filtered back-projection."""

from __future__ import annotations

import math

import torch

from gdmunet.scan_spec import FilterName
from gdmunet.tomography.filters import filter_projections
from gdmunet.tomography.projector import Projector


def filtered_back_projection(sinogram: torch.Tensor, projector: Projector, name: FilterName = "ramp") -> torch.Tensor:
    """Attenuation (..., y, x) in 1/mm from line integrals (..., views, bins) over 180 or 360 degrees.

    Differentiable where autograd sees it (through the filter; the back-projection as a sparse product). Fans after Kak
    and Slaney, chapter 3.4.2. There is no attenuation outside a declared field of view.
    """
    geometry = projector.geometry
    if geometry.source_to_axis is not None:
        position = geometry.bin_positions().to(sinogram)
        sinogram = sinogram * (
            geometry.source_to_axis / torch.hypot(position, position.new_tensor(geometry.source_to_axis))
        )
    filtered = filter_projections(sinogram, geometry.bin_size, name)
    image = projector.back_project(filtered) * (math.pi / (2 * geometry.views))
    if geometry.field_of_view is not None:
        image = image * geometry.inside().to(image)
    return image
