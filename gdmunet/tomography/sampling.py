"""Projection of a few slices without matrices: a view's samples are read from the slice, added up, and forgotten.

The same sums as `gdmunet.tomography.weights`, which pay off where many slices share them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
from torch.nn.functional import grid_sample

from gdmunet.tomography.scan_geometry import ScanGeometry


class SampledViews:
    """Line integrals and back-projection, view by view, and their exact adjoints.

    Parameters
    ----------
    geometry
        Parallel or fan beam.
    dtype
        Type of the places and sums; places are computed in float64.
    """

    def __init__(self, geometry: ScanGeometry, dtype: torch.dtype) -> None:
        self.geometry, self.dtype = geometry, dtype

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """Line integrals (..., views, bins) of slices (..., y, x), in steps of one pixel."""
        geometry = self.geometry
        stack = self._stack(images)
        result = stack.new_zeros(stack.shape[1], geometry.views, geometry.bins)
        for view, bins, places in self._rays():
            result[:, view, bins] = _read(stack, places)[0].sum(-1) * geometry.pixel
        return result.view(*images.shape[:-2], geometry.views, geometry.bins)

    def adjoint(self, sinogram: torch.Tensor) -> torch.Tensor:
        """The exact adjoint of `project`: (..., views, bins) to (..., y, x)."""
        values = self._stack(sinogram)[0]
        result = values.new_zeros(1, len(values), *self.geometry.slice_shape)
        for view, bins, places in self._rays():
            rays = values[:, view, bins, None].expand(-1, -1, places.shape[2]) * self.geometry.pixel
            result += _spread(rays[None], result, places)
        return result.view(*sinogram.shape[:-2], *self.geometry.slice_shape)

    def back_project(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Sum over views (..., y, x) of the sinogram, interpolated at every pixel."""
        values = self._stack(sinogram)
        result = values.new_zeros(values.shape[1], *self.geometry.slice_shape)
        for view, places, scale in self._pixels():
            result += _read(values[:, :, view, None], places)[0] * scale
        return result.view(*sinogram.shape[:-2], *self.geometry.slice_shape)

    def gather(self, images: torch.Tensor) -> torch.Tensor:
        """The exact adjoint of `back_project`: (..., y, x) to (..., views, bins)."""
        geometry = self.geometry
        stack = self._stack(images)
        result = stack.new_zeros(stack.shape[1], geometry.views, geometry.bins)
        row = stack.new_zeros(1, stack.shape[1], 1, geometry.bins)
        for view, places, scale in self._pixels():
            result[:, view] = _spread(stack * scale, row, places)[0, :, 0]
        return result.view(*images.shape[:-2], geometry.views, geometry.bins)

    def _stack(self, values: torch.Tensor) -> torch.Tensor:
        return values.reshape(1, -1, *values.shape[-2:]).to(self.dtype)

    def _rays(self) -> Iterator[tuple[int, slice, torch.Tensor]]:
        """Each view's number, the bins whose rays can meet the slice, and their samples' places (1, bins, steps, 2)."""
        height, width = self.geometry.slice_shape
        tall, wide = height // 2 + 1, width // 2 + 1  # from the axis, with a pixel of interpolation
        angles, feet = self.geometry.rays(slice(None))
        for view, (angle, foot) in enumerate(zip(angles, feet, strict=True)):
            sine, cosine = torch.sin(angle), torch.cos(angle)
            met = torch.nonzero(foot.abs() <= wide * cosine.abs() + tall * sine.abs()).flatten()
            if not len(met):
                continue
            bins = slice(int(met[0]), int(met[-1]) + 1)
            sine, cosine, foot = sine[bins, None], cosine[bins, None], foot[bins, None]
            reach = math.ceil(float((wide * sine.abs() + tall * cosine.abs()).max()))
            step = torch.arange(-reach, reach + 1, dtype=torch.float64)
            yield (
                view,
                bins,
                self._places(
                    (width // 2 + cosine * foot, sine, width), (height // 2 - sine * foot, cosine, height), step
                ),
            )

    def _places(
        self, x: tuple[torch.Tensor, torch.Tensor, int], y: tuple[torch.Tensor, torch.Tensor, int], step: torch.Tensor
    ) -> torch.Tensor:
        """Places (1, rays, steps, 2) for `grid_sample` from start, direction and length of each axis, in pixels."""
        places = torch.empty(1, len(x[0]), len(step), 2, dtype=self.dtype)
        for column, (start, direction, length) in enumerate((x, y)):
            start, direction = ((2 * start + 1) / length - 1).to(self.dtype), (2 * direction / length).to(self.dtype)
            torch.addcmul(start, direction, step.to(self.dtype), out=places[0, ..., column])
        return places

    def _pixels(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Each view's number, the places (1, y, x, 2) of all pixels on its detector, and what their values weigh."""
        places = torch.zeros(1, *self.geometry.slice_shape, 2, dtype=self.dtype)
        for view in range(self.geometry.views):
            bins, scale = self.geometry.bins_of_pixels(slice(view, view + 1))
            places[..., 0] = (bins + 0.5).mul_(2 / self.geometry.bins).sub_(1)
            yield view, places, scale[0].to(self.dtype)


# Outside of the slice, or of the detector, there is nothing.
_read = functools.partial(grid_sample, mode="bilinear", padding_mode="zeros", align_corners=False)


def _spread(values: torch.Tensor, like: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The adjoint of `_read`: add values (1, S, rows, columns) to where they were read, of the size of `like`."""
    bilinear = zeros = 0
    spread: torch.Tensor = torch.ops.aten.grid_sampler_2d_backward(
        values.contiguous(), like, places, bilinear, zeros, False, [True, False]
    )[0]
    return spread
