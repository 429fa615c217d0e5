"""Random windows of images, two views of a window, and the masked cells: the data side of pretraining.

Everything is drawn from a generator that the caller seeds by the iteration's number, so a run that resumes draws what
an uninterrupted one would have drawn. Values are the encoder's own input (about -1 to 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Views:
    """Two noisy views of the same windows.

    Attributes
    ----------
    first, second
        (B, 1, ...) crops of one size.
    clean
        `first` without its noise: the aim of the reconstruction of masked cells.
    shift
        (B, dimensions): corner of `second` minus corner of `first`, in voxels.
    """

    first: torch.Tensor
    second: torch.Tensor
    clean: torch.Tensor
    shift: torch.Tensor

    def to(self, device: torch.device) -> Views:
        """The images on a device; the shift, by which places are drawn, stays on the CPU."""
        return Views(self.first.to(device), self.second.to(device), self.clean.to(device), self.shift)


def random_window(
    volume: torch.Tensor,
    size: int,
    generator: torch.Generator,
    zoom: tuple[float, float] = (0.7, 1.5),
    air: float = -1.0,
) -> torch.Tensor:
    """A turned, flipped and rescaled window of a volume.

    Parameters
    ----------
    volume
        (z, y, x) or (y, x), encoder input.
    size
        Voxels along each side of the window.
    zoom
        Voxels of `volume` that one voxel of the window covers, drawn log-uniformly, and again +-15 % per axis.
    air
        Value outside the volume.

    Returns
    -------
    torch.Tensor
        (1, size, ...), the window lies within the volume where it fits.
    """
    dimensions = volume.ndim
    step = math.exp(_uniform(generator, math.log(zoom[0]), math.log(zoom[1])))
    steps = step * torch.tensor([_uniform(generator, 0.85, 1.15) for _ in range(dimensions)])
    turn = _random_turn(dimensions, generator)
    flips = 1.0 - 2.0 * torch.randint(0, 2, (dimensions,), generator=generator)
    matrix = turn @ torch.diag(steps * flips)
    reach = size / 2 * steps
    centre = torch.tensor(
        [
            _uniform(generator, min(r, n / 2), max(n - r, n / 2))
            for n, r in zip(volume.shape, reach.tolist(), strict=True)
        ]
    )
    line = torch.arange(size) - (size - 1) / 2
    grid = torch.stack(torch.meshgrid(*[line] * dimensions, indexing="ij"), -1) @ matrix.T + centre - 0.5
    extent = torch.tensor(volume.shape)
    # grid_sample wants (x, y, z) from -1 to 1 over voxel centres, and 0 outside: so air is made 0.
    places = (2 * grid / (extent - 1).clamp_min(1) - 1).flip(-1)
    return functional.grid_sample((volume - air)[None, None], places[None], align_corners=True)[0] + air


def make_views(windows: torch.Tensor, crop: int, generator: torch.Generator) -> Views:
    """Two crops of every window, anywhere in it, with noise of their own.

    Windows must be larger than crops by more than the deepest stride: with small shifts the borders of a crop, which
    the padding of the convolutions marks, would tell the place.

    Contrast, brightness and polarity are drawn once per window: a voxel's value stays visible in the features.
    Only noise, a slight gain and a slight offset differ between the views. Nothing blurs: a blurred image must not
    look like the sharp one.
    """
    windows = _recolour(windows, generator)
    count = len(windows)
    room = [n - crop for n in windows.shape[2:]]
    first, second = (
        torch.stack([torch.randint(0, n + 1, (count,), generator=generator) for n in room], 1) for _ in range(2)
    )
    clean = _crop(windows, first, crop)
    return Views(
        _disturb(clean, generator), _disturb(_crop(windows, second, crop), generator), clean, (second - first).float()
    )


def blur(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gaussian blur of (B, 1, ...), 0.7 to 1.5 voxels."""
    sigma = _uniform(generator, 0.7, 1.5)
    line = torch.exp(-0.5 * (torch.arange(-4, 5, device=images.device) / sigma) ** 2)
    convolve = functional.conv3d if images.ndim == 5 else functional.conv2d
    for axis in range(2, images.ndim):
        pads = [0, 0] * (images.ndim - 2)
        pads[2 * (images.ndim - 1 - axis)] = pads[2 * (images.ndim - 1 - axis) + 1] = 4
        kernel = (line / line.sum()).view(1, 1, *(9 if a == axis else 1 for a in range(2, images.ndim)))
        images = convolve(functional.pad(images, pads, mode="replicate"), kernel)
    return images


def random_mask(shape: tuple[int, ...], share: float, generator: torch.Generator) -> torch.Tensor:
    """True where a cell is masked: (B, 1, cells ...); blocks of 1, 2 or 4 cells per side, `share` of them."""
    block = 2 ** int(torch.randint(0, 3, (), generator=generator))
    coarse = [-(-n // block) for n in shape[2:]]
    chosen = torch.rand(shape[0], 1, *coarse, generator=generator) < share
    for axis in range(2, len(shape)):
        chosen = chosen.repeat_interleave(block, axis).narrow(axis, 0, shape[axis])
    return chosen


def _crop(windows: torch.Tensor, corners: torch.Tensor, size: int) -> torch.Tensor:
    crops = []
    for window, corner in zip(windows, corners.tolist(), strict=True):
        crops.append(window[(slice(None), *(slice(low, low + size) for low in corner))])
    return torch.stack(crops)


def _recolour(windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    shape = (len(windows), *(1,) * (windows.ndim - 1))
    gain = torch.exp(torch.randn(shape, generator=generator) * 0.15)
    offset = torch.randn(shape, generator=generator) * 0.1
    polarity = 1.0 - 2.0 * (torch.rand(shape, generator=generator) < 0.15).float()
    return windows * gain * polarity + offset


def _disturb(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    shape = (len(crops), *(1,) * (crops.ndim - 1))
    noise = 0.3 * torch.rand(shape, generator=generator) ** 1.5
    gain = 1 + 0.03 * torch.randn(shape, generator=generator)
    offset = 0.02 * torch.randn(shape, generator=generator)
    return crops * gain + offset + noise * torch.randn(crops.shape, generator=generator)


def _random_turn(dimensions: int, generator: torch.Generator) -> torch.Tensor:
    """A rotation by up to about 30 degrees around a random axis, after a random exchange of two axes."""
    angles = torch.randn(dimensions, dimensions, generator=generator) * 0.15
    turn = torch.matrix_exp(angles - angles.T)
    return turn[:, torch.randperm(dimensions, generator=generator)]


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
