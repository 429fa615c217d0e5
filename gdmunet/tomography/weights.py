"""Sparse matrices: the weights of every pixel in every ray, and of every bin in every pixel.

All slices of a volume share them, so a projection of many slices is one sparse matrix times a dense one.
"""

from __future__ import annotations

import warnings

import torch

from gdmunet.tomography.scan_geometry import ScanGeometry

# Steps of one pixel along a ray: at most three lie within one pixel of a row that the ray crosses at 45 degrees or
# more, and they touch at most four neighbouring pixels of it.
_SAMPLES, _PIXELS = 3, 4


def ray_weights(geometry: ScanGeometry, views: slice, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Line integrals in mm: CSR (views * bins, pixels).

    A ray is sampled in steps of one pixel from the foot of the perpendicular that the rotation axis drops on it; a
    sample interpolates linearly between its four pixels, and there is nothing beyond the slice. This is what
    rotating the slice and adding up its rows does (scikit-image's `radon`), summed up pixel by pixel in advance.
    """
    angle, foot = (part.flatten() for part in geometry.rays(views))
    sine, cosine = torch.sin(angle).to(device), torch.cos(angle).to(device)
    foot = foot.to(device)
    # Along its major axis (the one it runs along the most) a ray crosses one line of pixels after the other.
    pieces = []
    for along_y in (True, False):
        rays = torch.nonzero((cosine.abs() >= sine.abs()) == along_y).flatten()
        if len(rays):
            pieces.append(_crossings(sine[rays], cosine[rays], foot[rays], rays, geometry.slice_shape, along_y))
    ray, pixel, value = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    if len(pieces) == 2:  # rays of both kinds: bring them into their order
        ray, order = torch.sort(ray, stable=True)
        pixel, value = pixel[order], value[order]
    starts = torch.zeros(len(angle) + 1, dtype=torch.int32, device=device)
    starts[1:] = torch.bincount(ray, minlength=len(angle)).cumsum(0)
    height, width = geometry.slice_shape
    return _compressed(starts, pixel, value.to(dtype) * geometry.pixel, (len(angle), height * width))


def _crossings(
    sine: torch.Tensor,
    cosine: torch.Tensor,
    foot: torch.Tensor,
    rays: torch.Tensor,
    shape: tuple[int, int],
    along_y: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ray, pixel (int32) and weight of every pixel that a ray touches, for rays that run along y, or x, the most.

    Step r of a ray lies at ``foot n + r d``. On every line of pixels the weights of at most three steps add up, on
    at most four pixels.
    """
    height, width = shape
    x_foot, y_foot = width // 2 + cosine * foot, height // 2 - sine * foot
    major, minor, major_foot, minor_foot, lines, across = (
        (cosine, sine, y_foot, x_foot, height, width) if along_y else (sine, cosine, x_foot, y_foot, width, height)
    )
    line = torch.arange(lines, dtype=torch.float64, device=foot.device)
    # The first step within one pixel of the line, and where it lies off the line and along it.
    step = torch.ceil((line - major_foot[:, None]) / major[:, None] - 1 / major.abs()[:, None])
    position = minor_foot[:, None] + step * minor[:, None]
    first = torch.floor(position + (_SAMPLES - 1) * minor[:, None].clamp(max=0))
    ray, row = torch.nonzero((first > -_PIXELS) & (first < across), as_tuple=True)
    off = (major_foot[:, None] + step * major[:, None] - line)[ray, row].to(torch.float32)
    along = (position - first)[ray, row].to(torch.float32)
    first = first[ray, row].int()
    # From here on numbers are small, and float32 is as good.
    steps = torch.arange(_SAMPLES, dtype=torch.float32, device=foot.device)[:, None]
    off = (1 - (off + steps * major.float()[ray]).abs()).clamp_(min=0)
    along = along + steps * minor.float()[ray]
    weights = torch.stack([(off * (1 - (along - k).abs()).clamp_(min=0)).sum(0) for k in range(_PIXELS)], -1)
    index = first[:, None] + torch.arange(_PIXELS, dtype=torch.int32, device=foot.device)
    kept = torch.nonzero((weights > 0) & (index >= 0) & (index < across), as_tuple=True)
    row, index = row.int()[kept[0]], index[kept]
    return rays[ray[kept[0]]], row * width + index if along_y else index * width + row, weights[kept]


def pixel_weights(geometry: ScanGeometry, views: slice, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Back-projection: CSR (pixels, views * bins), two bins per view, interpolated linearly.

    For fans every value is weighted by the squared ratio of distances (source to axis) / (source to pixel's plane).
    """
    bin_, scale = (part.to(device).flatten(1).t() for part in geometry.bins_of_pixels(views))
    lower = torch.floor(bin_)
    share = bin_ - lower
    index = torch.stack([lower, lower + 1], -1)
    weights = torch.stack([1 - share, share], -1) * scale[..., None]
    weights *= (index >= 0) & (index < geometry.bins)
    pixels, number = bin_.shape
    shift = torch.arange(number, device=device)[None, :, None] * geometry.bins
    columns = index.clamp(0, geometry.bins - 1).int() + shift.int()
    each = 2 * number
    starts = torch.arange(pixels + 1, dtype=torch.int32, device=device) * each
    size = (pixels, number * geometry.bins)
    return _compressed(starts, columns.flatten(), weights.flatten().to(dtype), size)


def _compressed(
    starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """A CSR matrix, without notes that such matrices are in beta and unchecked: these are right by construction."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse ")
        return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)
