"""The two tasks of pretraining: rebuild masked cells, and recognise a place in another view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from gdmunet.device import full_precision
from gdmunet.encoders.fine import FINE_WINDOWS, FineLevel, window_statistics
from gdmunet.encoders.pretraining_options import PretrainingOptions
from gdmunet.encoders.residual import ResidualEncoder
from gdmunet.encoders.views import Views, blur, random_mask
from gdmunet.errors import GdmError


class MaskedDecoder(nn.Module):
    """Adds all levels at the finest stride and predicts the voxels of every cell."""

    def __init__(self, encoder: ResidualEncoder, width: int = 24) -> None:
        super().__init__()
        convolution = nn.Conv3d if encoder.dimensions == 3 else nn.Conv2d
        self.token = nn.Parameter(torch.zeros(encoder.widths[0], *(1,) * encoder.dimensions))
        self.laterals = nn.ModuleList(convolution(channels, width, 1) for channels in encoder.widths)
        self.mix = convolution(width, width, 3, padding=1)
        self.voxels = convolution(width, 2**encoder.dimensions, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, voxels of a cell, cells ...)."""
        total: torch.Tensor = self.laterals[-1](maps[-1])
        for lateral, values in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            total = functional.interpolate(total, size=values.shape[2:], mode="nearest") + lateral(values)
        voxels: torch.Tensor = self.voxels(functional.silu(self.mix(functional.silu(total))))
        return voxels


def reconstruction_loss(
    encoder: ResidualEncoder,
    decoder: MaskedDecoder,
    noisy: torch.Tensor,
    clean: torch.Tensor,
    mask_share: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Mean squared error on the masked voxels, over the variance of `clean`; images are (B, 1, ...)."""
    cells = encoder.cells(noisy)
    mask = random_mask(tuple(cells.shape), mask_share, generator).to(cells.device)
    predicted: torch.Tensor = decoder(encoder.maps(torch.where(mask, decoder.token, cells)))
    wanted = _split_cells(clean)
    error = ((predicted - wanted).square() * mask).sum() / (mask.sum() * wanted.shape[1]).clamp_min(1)
    return error / (wanted.var() + 0.01)


@dataclass(frozen=True)
class ContrastOptions:
    """Comparison of the places of one level.

    Attributes
    ----------
    stride
        Voxels along a side of the level's cells.
    count
        Places that are compared, all windows together.
    temperature
        Divisor of the cosines.
    """

    stride: int
    count: int = 384
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.stride < 1 or self.count < 2 or self.temperature <= 0:
            raise GdmError(
                "places cannot be compared with these numbers",
                found=f"stride {self.stride}, {self.count} places, temperature {self.temperature:g}",
                expected="a stride of 1 or more, two or more places, a temperature above 0",
                remedy="correct the numbers of the loss",
            )


def place_contrast(
    queries: torch.Tensor,
    keys: torch.Tensor,
    decoys: torch.Tensor,
    images: torch.Tensor,
    shift: torch.Tensor,
    generator: torch.Generator,
    options: ContrastOptions,
) -> tuple[torch.Tensor, float]:
    """InfoNCE of one level: a place of the shifted view against the same place, and all others, of the first view.

    It is computed in float32, also within mixed precision.

    Parameters
    ----------
    queries, keys
        (B, C, ...) maps of the shifted and of the first view.
    decoys
        (b, C, ...) maps of the first b of the first views, blurred: more wrong answers, so that sharpness is seen.
    images
        (B, 1, ...) the shifted view: places are drawn in proportion to the contrast inside their cell, since flat
        ones cannot be told apart.
    shift
        (B, dimensions) voxels from the first view's corner to the shifted view's.

    Returns
    -------
    tuple of torch.Tensor and float
        Cross entropy over the logarithm of the number of places; share of places whose best match is right.
    """
    # Cosines over a temperature of 0.1 in half precision would be some hundredths off, also those that agree.
    with full_precision(queries.device):
        queries, keys, decoys, images = (maps.float() for maps in (queries, keys, decoys, images))
        return _compare_places(queries, keys, decoys, images, shift, generator, options)


def _compare_places(
    queries: torch.Tensor,
    keys: torch.Tensor,
    decoys: torch.Tensor,
    images: torch.Tensor,
    shift: torch.Tensor,
    generator: torch.Generator,
    options: ContrastOptions,
) -> tuple[torch.Tensor, float]:
    """`place_contrast` of float32 maps."""
    dimensions, shape, stride = queries.ndim - 2, queries.shape[2:], options.stride
    cells = torch.stack(torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, dimensions)
    places = cells[None] + shift[:, None] / stride
    inside = ((places > -0.51) & (places < torch.tensor(shape) - 0.49)).all(-1)
    weights = torch.where(inside, _contrast_in_cells(images, stride).cpu().flatten(1) + 1e-4, 1e-9)
    chosen = torch.multinomial(weights, min(options.count // len(keys), len(cells)), generator=generator)
    kept = inside.gather(1, chosen).to(keys.device)
    index = chosen.to(keys.device)[:, None].expand(-1, keys.shape[1], -1)
    if not kept.any():  # one cell per crop, and every shift moves it out
        return 0.0 * queries.sum(), 0.0
    left = queries.flatten(2).gather(2, index).transpose(1, 2)[kept]
    scale = torch.tensor([max(n - 1, 1) for n in shape]).float()
    points = places.gather(1, chosen[..., None].expand(-1, -1, dimensions)).clamp(
        min=torch.zeros(dimensions), max=scale
    )
    grid = (2 * points / scale - 1).flip(-1).to(keys.device)
    grid = grid.view(len(keys), -1, *(1,) * (dimensions - 1), dimensions)
    right = _sample(keys, grid)[kept]
    wrong = _sample(decoys, grid[: len(decoys)])[kept[: len(decoys)]]
    answers = torch.cat([right, wrong])
    centre = right.mean(0, keepdim=True)
    similar = functional.normalize(left - centre, dim=1) @ functional.normalize(answers - centre, dim=1).T
    wanted = torch.arange(len(left), device=similar.device)
    loss = functional.cross_entropy(similar / options.temperature, wanted) / math.log(max(len(answers), 2))
    return loss, float((similar.detach().argmax(1) == wanted).float().mean())


def texture_contrast(
    queries: torch.Tensor,
    keys: torch.Tensor,
    decoys: torch.Tensor,
    images: torch.Tensor,
    shift: torch.Tensor,
    generator: torch.Generator,
    options: ContrastOptions,
) -> tuple[torch.Tensor, float]:
    """`place_contrast` of what the drift reads of a level at stride 1: local means and deviations, by window size.

    Each of the four is a set of tokens of its own in the drift, so each is a contrast of its own here.

    Returns
    -------
    tuple of torch.Tensor and float
        Mean loss; mean share of places found by the deviations.
    """
    losses, shares = [], []
    for window in FINE_WINDOWS:
        statistics = [window_statistics(maps, window) for maps in (queries, keys, decoys)]
        for number, (left, right, wrong) in enumerate(zip(*statistics, strict=True)):
            own = replace(options, stride=window)
            loss, share = place_contrast(left, right, wrong, images, shift, generator, own)
            losses.append(loss)
            if number == 1:
                shares.append(share)
    return torch.stack(losses).mean(), sum(shares) / len(shares)


def trunk_loss(
    encoder: ResidualEncoder,
    decoder: MaskedDecoder,
    views: Views,
    options: PretrainingOptions,
    generator: torch.Generator,
    notes: dict[str, float],
) -> torch.Tensor:
    """Both tasks over the stages; `notes` gets the share of places found, by level."""
    first, second = views.first, views.second
    seen = slice(0, options.masked_windows)
    masked = reconstruction_loss(encoder, decoder, first[seen], views.clean[seen], options.mask_share, generator)
    blurred = blur(first[: options.blurred_windows], generator)
    maps = encoder.maps(encoder.cells(torch.cat([first, second, blurred])))
    notes["masked"] = float(masked.detach())
    contrast = masked.new_zeros(())
    for level, values in zip(encoder.trunk_levels, maps, strict=True):
        keys, queries, decoys = values.tensor_split([len(first), 2 * len(first)])
        places = ContrastOptions(level.stride[0], options.places, options.temperature)
        loss, notes[level.name] = place_contrast(queries, keys, decoys, second, views.shift, generator, places)
        contrast = contrast + loss / len(maps)
    return masked + options.contrast_weight * contrast


def fine_loss(
    fine: FineLevel,
    views: Views,
    options: PretrainingOptions,
    generator: torch.Generator,
    notes: dict[str, float],
) -> torch.Tensor:
    """The contrast of the level at stride 1; `notes` gets the share of places found."""
    first, second = views.first, views.second
    maps = fine(torch.cat([first, second, blur(first[: options.blurred_windows], generator)]))
    keys, queries, decoys = maps.tensor_split([len(first), 2 * len(first)])
    places = ContrastOptions(1, options.places, options.temperature)
    loss, notes[fine.level.name] = texture_contrast(queries, keys, decoys, second, views.shift, generator, places)
    return options.contrast_weight * loss


def _sample(maps: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) at points (B, N, 1, ..., dimensions), as (B, N, C)."""
    return functional.grid_sample(maps, grid, align_corners=True).flatten(2).transpose(1, 2)


def _contrast_in_cells(images: torch.Tensor, stride: int) -> torch.Tensor:
    """Standard deviation inside every cell, (B, cells ...)."""
    pool = functional.avg_pool3d if images.ndim == 5 else functional.avg_pool2d
    return (pool(images.square(), stride) - pool(images, stride).square()).clamp_min(0).sqrt()[:, 0]


def _split_cells(volume: torch.Tensor) -> torch.Tensor:
    """(B, 1, ...) to (B, voxels of a cell of 2 per side, cells ...)."""
    dimensions = volume.ndim - 2
    for axis in range(2, 2 + dimensions):
        volume = volume.unfold(axis, 2, 2)
    return volume.flatten(2 + dimensions)[:, 0].movedim(-1, 1)
