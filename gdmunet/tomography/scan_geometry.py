"""The rays of one scan in its slices.

Conventions, those of scikit-image's `radon`: pixels are counted (row y, column x) from the rotation axis, which lies on
pixel (height // 2, width // 2). At angle a the detector's axis is n = (cos a, -sin a) and rays run along
d = (sin a, cos a), both (x, y). The axis projects onto bin ``bins // 2``.

A fan's source lies at -source_to_axis d. Its flat detector is taken to lie on the axis, so that a bin has the size
that it has there, whatever the distance of the real one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gdmunet.errors import GdmError
from gdmunet.geometry import Vector
from gdmunet.scan_spec import Beam, ScanSpec

# In-plane voxel sizes that differ by less are square pixels, rounded in a file's header.
SQUARE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ScanGeometry:
    """One scan of slices.

    Attributes
    ----------
    slice_shape
        Pixels (y, x).
    pixel
        Side of a pixel in mm.
    angles
        Angles of the views, in degrees.
    bins, bin_size
        Detector bins, and the size of one in mm on the rotation axis.
    source_to_axis
        mm; None for parallel beams.
    field_of_view
        Diameter in mm of the circle beyond which there is air; None: all is measured.
    """

    beam: Beam
    slice_shape: tuple[int, int]
    pixel: float
    angles: tuple[float, ...]
    bins: int
    bin_size: float
    source_to_axis: float | None = None
    field_of_view: float | None = None

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.angles)

    def angles_of(self, views: slice) -> torch.Tensor:
        """Angles (V,) of some views in radians, float64."""
        return torch.deg2rad(torch.tensor(self.angles[views], dtype=torch.float64))

    def bin_positions(self) -> torch.Tensor:
        """Positions (bins,) in mm on the detector's axis, float64."""
        return (torch.arange(self.bins, dtype=torch.float64) - self.bins // 2) * self.bin_size

    def pixel_positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """x (1, x) of every column and y (y, 1) of every row from the rotation axis in mm, float64."""
        height, width = self.slice_shape
        y = torch.arange(height, dtype=torch.float64) - height // 2
        x = torch.arange(width, dtype=torch.float64) - width // 2
        return x[None] * self.pixel, y[:, None] * self.pixel

    def rays(self, views: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Angle in radians and signed distance from the axis in pixels of every ray, each (views, bins) float64."""
        angle = self.angles_of(views)[:, None]
        position = self.bin_positions()[None]
        if self.source_to_axis is None:
            turned = torch.zeros_like(position)
        else:
            turned = torch.atan(position / self.source_to_axis)
        foot = position * torch.cos(turned) / self.pixel
        return angle + turned, foot.expand(angle.numel(), -1)

    def bins_of_pixels(self, views: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Where pixels lie on the detector, in bins, and what their values weigh, each (views, y, x) float64.

        For fans every value is weighted by the squared ratio of distances (source to axis) / (source to pixel's plane).
        """
        sine, cosine = (turn(self.angles_of(views))[:, None, None] for turn in (torch.sin, torch.cos))
        x, y = self.pixel_positions()
        middle = self.bins // 2
        if self.source_to_axis is None:
            bins = (x * cosine / self.bin_size + middle) - y * sine / self.bin_size
            return bins, torch.ones((), dtype=torch.float64).expand(bins.shape)
        ratio = self.source_to_axis / (self.source_to_axis + x * sine + y * cosine)
        return (x * cosine - y * sine) * ratio / self.bin_size + middle, ratio**2

    def inside(self) -> torch.Tensor:
        """Field of view, bool (y, x)."""
        if self.field_of_view is None:
            return torch.ones(self.slice_shape, dtype=torch.bool)
        x, y = self.pixel_positions()
        return torch.hypot(*torch.broadcast_tensors(x, y)) <= self.field_of_view / 2


def plan_geometry(settings: ScanSpec, shape: tuple[int, int], spacing: Vector, identifier: str) -> ScanGeometry:
    """The geometry for slices of `shape` (y, x) pixels in a volume of `spacing` (z, y, x) mm.

    Raises
    ------
    GdmError
        Pixels that are not square, or a source inside the scanned circle.
    """
    _, high, wide = spacing
    if abs(high - wide) > SQUARE_TOLERANCE * max(high, wide):
        raise GdmError(
            "the pixels of the slices are not square",
            case=identifier,
            found=f"{high:.4g} x {wide:.4g} mm (y, x)",
            expected="one size in both directions: projections are sampled in steps of one pixel",
            remedy="resample the volume to square pixels first, for example with SimpleITK.Resample",
        )
    pixel = (high + wide) / 2
    diameter = pixel * math.hypot(*shape)
    if settings.field_of_view is not None:
        diameter = min(settings.field_of_view, diameter)
    source = None if settings.beam == "parallel" else settings.source_to_axis
    # Two bins more: a pixel reaches beyond its centre, and the axis lies on a pixel, not in the middle of all.
    bins = math.ceil(_detector_length(diameter, source, identifier) / pixel) + 2
    return ScanGeometry(
        settings.beam, shape, pixel, settings.angles(identifier), bins, pixel, source, settings.field_of_view
    )


def _detector_length(diameter: float, source: float | None, identifier: str) -> float:
    """mm on the rotation axis that the rays through a circle take."""
    if source is None:
        return diameter
    radius = diameter / 2
    if radius >= source:
        raise GdmError(
            "the source lies inside the scanned circle",
            case=identifier,
            found=f"{source:g} mm from the axis, a circle of radius {radius:.4g} mm",
            expected="a source outside",
            remedy="move it away with --source-to-axis, or declare a field of view with --field-of-view",
        )
    return 2 * source * radius / math.sqrt(source**2 - radius**2)
