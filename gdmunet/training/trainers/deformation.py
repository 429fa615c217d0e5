"""A small network that says how a prediction would have to be bent to lie on its target, and the bending itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from gdmunet.network_spec import NetworkSpec
from gdmunet.ranges import within


@dataclass(frozen=True)
class DeformationSpec:
    """A deformation network in numbers.

    Attributes
    ----------
    strides
        Strides of the layers that shrink, the first of which gives the field its grid.
    width
        Channels of the first layer; all later ones have twice as many.
    largest
        Largest displacement along an axis, in voxels.
    """

    strides: tuple[tuple[int, ...], ...]
    width: int
    largest: float

    def __post_init__(self) -> None:
        within("the width of the deformation network", self.width, 1, 1024)
        within("the largest displacement in voxels", self.largest, 0.1, 64)

    @classmethod
    def of(cls, network: NetworkSpec, width: int, largest: float) -> DeformationSpec:
        """Beside a planned generator: its first three strides, so that thick slices are not shrunk across."""
        return cls(network.strides[1:4], width, largest)


class DeformationNetwork(nn.Module):
    """Two images -> the displacement of every voxel, as a small U-Net at half the resolution and below.

    `mean` (1, axes, 1, ...) is the mean displacement of a training, which its trainer keeps.

    It starts with no displacement at all: its last layer is zero. There is no normalisation layer, so that a patch does
    not know the others. Source of the form: VoxelMorph (Balakrishnan et al., arXiv 1809.05231).
    """

    mean: torch.Tensor

    def __init__(self, spec: DeformationSpec) -> None:
        super().__init__()
        dimensions = len(spec.strides[0])
        self.register_buffer("mean", torch.zeros(1, dimensions, *[1] * dimensions))
        convolution: Any = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.largest, self.linear = spec.largest, "trilinear" if dimensions == 3 else "bilinear"
        widths = [spec.width, *[2 * spec.width] * (len(spec.strides) - 1)]
        self.down = nn.ModuleList()
        for number, (stride, width) in enumerate(zip(spec.strides, widths, strict=True)):
            self.down.append(convolution(2 if number == 0 else widths[number - 1], width, 3, stride, padding=1))
        self.up = nn.ModuleList()
        for coarse, fine in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True):
            self.up.append(convolution(coarse + fine, fine, 3, padding=1))
        self.head = convolution(spec.width, dimensions, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """(B, 1, ...) twice -> the field (B, axes, ...) in voxels: fixed(v) is to be moving(v + field(v))."""
        values, skipped = torch.cat([moving, fixed], dim=1), []
        for layer in self.down:
            values = functional.leaky_relu(layer(values), 0.2)
            skipped.append(values)
        for layer, skip in zip(self.up, reversed(skipped[:-1]), strict=True):
            values = functional.interpolate(values, size=skip.shape[2:], mode=self.linear, align_corners=False)
            values = functional.leaky_relu(layer(torch.cat([values, skip], dim=1)), 0.2)
        field = self.largest * torch.tanh(self.head(values).float() / self.largest)
        return functional.interpolate(field, size=fixed.shape[2:], mode=self.linear, align_corners=False)


def bend(image: torch.Tensor, field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The image (B, 1, ...) read at v + field(v), linearly, and where that lies in the patch (B, 1, ...; 0 or 1).

    Beyond the patch the nearest voxel is read.
    """
    sizes = image.shape[2:]
    axes = [torch.arange(size, dtype=field.dtype, device=field.device) for size in sizes]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")) + field
    last = [size - 1 for size in sizes]
    shares = [places[:, axis] / max(1, most) for axis, most in enumerate(last)]
    inside = torch.stack([(share >= 0) & (share <= 1) for share in shares], dim=1).all(dim=1, keepdim=True)
    # The last axis comes first in the grid, whose units are half patches.
    grid = torch.stack([2 * share - 1 for share in reversed(shares)], dim=-1)
    bent = functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return bent, inside.to(image.dtype)


def roughness(field: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of neighbouring displacements, over all axes; (B, axes, ...) in voxels -> ()."""
    steps = [field.diff(dim=axis).square().mean() for axis in range(2, field.ndim)]
    return torch.stack(steps).mean()
