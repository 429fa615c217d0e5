"""Rotation and scaling of a patch: the region that it needs, and its values there."""

from __future__ import annotations

import math

import numpy as np
import torch

from gdmunet.training.patches.spline import cubic_reader, read_nearest, spline_coefficients

# Voxels read beyond the farthest place: two for the spline's support, and three over which the guess at what lies
# behind the crop's edge fades to 2 % of itself.
_SUPPORT = 5
# Voxels of a patch that are interpolated at once: a bound of the memory that rotating takes.
_AT_ONCE = 1 << 21


def rotation_matrix(angles: tuple[float, ...]) -> np.ndarray:
    """Rotation by angles in radians: about z, y and x of 3D patches in this order, or the one angle of 2D patches."""
    if len(angles) == 1:
        return _plane_rotation(2, (0, 1), angles[0])
    planes = ((1, 2), (2, 0), (0, 1))
    about_z, about_y, about_x = (_plane_rotation(3, plane, angle) for plane, angle in zip(planes, angles, strict=True))
    matrix: np.ndarray = about_x @ about_y @ about_z
    return matrix


def crop_shape(matrix: np.ndarray, patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """Size in voxels of the region about the same centre that the patch moved by `matrix` is interpolated from."""
    reach = np.abs(matrix) @ (np.asarray(patch_size) - 1)
    return tuple(math.ceil(along - 1e-9) + 1 + 2 * _SUPPORT for along in reach)


def move(
    values: torch.Tensor, mask: torch.Tensor, matrix: np.ndarray, patch_size: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch whose voxel at offset d from its centre shows what lies at ``matrix @ d`` from the crop's centre.

    Parameters
    ----------
    values
        (C, ...) of size `crop_shape` at least; interpolated by cubic splines.
    mask
        (1, ...) float; the nearest voxel's value.
    matrix
        (dimensions, dimensions).
    patch_size
        Size of the result.
    """
    read = cubic_reader(spline_coefficients(values))
    offsets = [torch.arange(size, device=values.device, dtype=values.dtype) - (size - 1) / 2 for size in patch_size]
    moved = values.new_empty(values.shape[0], *patch_size)
    moved_mask = mask.new_empty(1, *patch_size)
    rows = max(1, _AT_ONCE // math.prod(patch_size[1:]))
    for start in range(0, patch_size[0], rows):
        part = slice(start, start + rows)
        places = _positions(matrix, [offsets[0][part], *offsets[1:]], values.shape[1:])
        moved[:, part] = read(places)
        moved_mask[:, part] = read_nearest(mask, places)
    return moved, moved_mask


def _positions(matrix: np.ndarray, offsets: list[torch.Tensor], shape: tuple[int, ...]) -> list[torch.Tensor]:
    """For each axis the coordinate in the crop; along an axis on which it does not depend it has size 1.

    The numbers of the matrix are arguments of kernels: nothing is copied to the device.
    """
    along = [
        offset.reshape([-1 if axis == place else 1 for place in range(len(offsets))])
        for axis, offset in enumerate(offsets)
    ]
    positions = []
    for row, size in zip(matrix.tolist(), shape, strict=True):
        place = torch.full_like(along[0][:1], (size - 1) / 2)
        for factor, offset in zip(row, along, strict=True):
            if factor != 0:
                place = place + factor * offset
        positions.append(place)
    return positions


def _plane_rotation(dimensions: int, plane: tuple[int, int], angle: float) -> np.ndarray:
    first, second = plane
    matrix = np.eye(dimensions)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = math.sin(angle), -math.sin(angle)
    return matrix
