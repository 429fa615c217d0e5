"""The level at stride 1: one convolution over 5 voxels along each axis, read by its local means and deviations.

The finest detail is where a prediction lacks most power, and the deeper levels, which begin with cells of two voxels,
hardly see it. The map is linear in the input: its deviation inside a window is the energy of the filter's band there,
and its gradient never explodes.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from gdmunet.atomic import atomic_path
from gdmunet.encoders.weight_files import check_forms
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.formats import FileFormat
from gdmunet.plans import EncoderLevel
from gdmunet.ranges import within
from gdmunet.serialization import parse_as

KERNEL = 5
"""Voxels along each side of the filters."""
FINE_WINDOWS = (4, 8)
"""Voxels along each side of the windows over which a level at stride 1 is read: a voxel alone holds no texture."""
FINE_CHANNELS = 8
"""Filters: with 8 the level is two fifths of the encoder's time on a CPU (documentation/benchmarks.md)."""
_REACH = KERNEL // 2
_FORMAT = FileFormat("fine level", key="format")
_HEADER_KEY = "gdmunet_fine_level"
_FOREIGN = "the file does not hold a level at stride 1, or it is damaged"


@dataclass(frozen=True)
class _FineHeader:
    dimensions: int
    channels: int
    recipe: dict[str, Any] = field(default_factory=dict)
    format: int = _FORMAT.version

    def __post_init__(self) -> None:
        within("the dimensions of a level", self.dimensions, 2, 3)
        within("the filters at stride 1", self.channels, 1, 4096)


class FineLevel(nn.Module):
    """Linear filters at stride 1.

    The convolution is computed over blocks of 2 voxels along each axis: 2^d input channels and 2^d times as many
    output channels with a kernel of 3 blocks give the same numbers. On a CPU the gradient of a convolution with one
    input channel takes five times as long, and tensor cores want 8 channels.

    Parameters
    ----------
    dimensions
        2 or 3.
    channels
        Number of filters.
    """

    index: torch.Tensor

    def __init__(self, dimensions: int, channels: int = FINE_CHANNELS) -> None:
        super().__init__()
        self.dimensions, self.channels = dimensions, channels
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.filters = convolution(1, channels, KERNEL, padding=_REACH)
        with torch.no_grad():
            # Weights without data need no draw, and PyTorch imports its compiler to draw them.
            if not self.filters.weight.is_meta:
                nn.init.normal_(self.filters.weight, std=KERNEL ** (-dimensions / 2))
            if self.filters.bias is not None:
                self.filters.bias.zero_()
        self.register_buffer("index", _block_index(dimensions), persistent=False)

    @property
    def level(self) -> EncoderLevel:
        """Name, channels and stride of the map."""
        return EncoderLevel("stride_1", self.channels, (1,) * self.dimensions)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, 1, ...) with even sizes to (B, channels, ...)."""
        blocks = 1 << self.dimensions
        weight, bias = self.filters.weight, self.filters.bias
        assert bias is not None
        padded = torch.cat([weight.flatten(1), weight.new_zeros(self.channels, 1)], 1)
        spread = padded[:, self.index].reshape(self.channels * blocks, blocks, *(3,) * self.dimensions)
        convolve = functional.conv3d if self.dimensions == 3 else functional.conv2d
        return _joined(convolve(_split(volume), spread, bias.repeat_interleave(blocks), padding=1), self.channels)

    @torch.no_grad()
    def calibrate(self, volumes: torch.Tensor) -> None:
        """Scale the filters: mean 0 over `volumes` (B, 1, ...), and a deviation of 1 inside windows of 8 voxels."""
        values = self(volumes)
        _, deviation = window_statistics(values, FINE_WINDOWS[-1])
        axes = (0, *range(2, values.ndim))
        scale = deviation.square().mean(axes).sqrt()
        # A floor, so that a filter that hardly answers is not blown up to noise.
        scale = scale.clamp_min(0.1 * float(scale.median()) + 1e-6)
        assert self.filters.bias is not None
        self.filters.bias.sub_(values.mean(axes)).div_(scale)
        self.filters.weight.div_(scale.view(-1, *(1,) * (self.dimensions + 1)))


def window_statistics(values: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation in tiles of `window` voxels: two maps (B, C, ...) of `values` (B, C, ...)."""
    pool = functional.avg_pool3d if values.ndim == 5 else functional.avg_pool2d
    mean = pool(values, window)
    # The overall mean is taken off first: the mean of squares less the square of the mean cancels otherwise.
    centre = values.detach().mean(tuple(range(2, values.ndim)), keepdim=True)
    centred = values - centre
    variance = pool(centred.square(), window) - pool(centred, window).square()
    return mean, (variance.clamp_min(0) + 1e-6).sqrt()


def save_fine_level(fine: FineLevel, file: Path, recipe: dict[str, Any]) -> None:
    """Write the filters in half precision with their numbers and their origin in the header."""
    header = {
        _FORMAT.key: _FORMAT.version,
        "dimensions": fine.dimensions,
        "channels": fine.channels,
        "recipe": recipe,
    }
    tensors = {name: value.detach().half().contiguous() for name, value in fine.state_dict().items()}
    with atomic_path(file, SafetensorError) as temporary:
        save_file(tensors, str(temporary), metadata={_HEADER_KEY: json.dumps(header)})


def load_fine_level(file: Path) -> FineLevel:
    """The level of a file that `save_fine_level` wrote, float32.

    Raises
    ------
    GdmError
        Missing, damaged or foreign file.
    """
    if not file.is_file():
        raise GdmError("the file of the level at stride 1 is missing", file=file, remedy="install gdmunet again")
    with (
        reading(_FOREIGN, file, remedy="install gdmunet again"),
        safe_open(str(file), framework="pt", device="cpu") as stored,
    ):
        header = parse_as(_FineHeader, (stored.metadata() or {})[_HEADER_KEY], "level", _FORMAT)
        fine = FineLevel(header.dimensions, header.channels)
        check_forms(stored, fine)
        fine.load_state_dict({name: stored.get_tensor(name).float() for name in fine.state_dict()})
    return fine


def _block_index(dimensions: int) -> torch.Tensor:
    """Place in the flat kernel, or behind its end for a zero: (output place, input place, blocks of the kernel ...).

    A voxel at place `a` of its block sees, through tap `t`, the voxel ``a + t - reach`` from the block's first one: its
    block and the place in that are the quotient and the rest by 2.
    """
    kernel = KERNEL**dimensions
    index = torch.full((2,) * dimensions + (2,) * dimensions + (3,) * dimensions, kernel)
    for place in itertools.product(range(2), repeat=dimensions):
        for number, tap in enumerate(itertools.product(range(KERNEL), repeat=dimensions)):
            steps = [divmod(a + t - _REACH, 2) for a, t in zip(place, tap, strict=True)]
            index[(*place, *(rest for _, rest in steps), *(block + 1 for block, _ in steps))] = number
    return index.flatten(0, dimensions - 1).flatten(1, dimensions)


def _split(volume: torch.Tensor) -> torch.Tensor:
    """(B, 1, n, ...) to (B, 2^d, n / 2, ...): the voxels of a block become channels."""
    dimensions = volume.ndim - 2
    pairs = volume.reshape(len(volume), *(part for n in volume.shape[2:] for part in (n // 2, 2)))
    order = (0, *range(2, 2 * dimensions + 1, 2), *range(1, 2 * dimensions, 2))
    return pairs.permute(order).flatten(1, dimensions)


def _joined(blocks: torch.Tensor, channels: int) -> torch.Tensor:
    """(B, C 2^d, n, ...) to (B, C, 2 n, ...): the way back of `_split`."""
    dimensions = blocks.ndim - 2
    shape = blocks.shape[2:]
    values = blocks.view(len(blocks), channels, *(2,) * dimensions, *shape)
    order = (0, 1, *(axis for k in range(dimensions) for axis in (2 + dimensions + k, 2 + k)))
    return values.permute(order).reshape(len(blocks), channels, *(2 * n for n in shape))
