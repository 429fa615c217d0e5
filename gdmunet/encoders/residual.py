"""The network of gdmunet's encoders: four levels of residual convolutions without any normalisation layer.

GroupNorm and InstanceNorm divide by the standard deviation of the patch at hand, so on a flat patch their input
gradient explodes (2e6 was measured on a constant). Here the *weights* are standardised while training and stored as
plain convolutions: the map from input to features is smooth, the same everywhere, and its gradient is bounded by the
weights alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gdmunet.atomic import atomic_path
from gdmunet.encoders.fine import FineLevel
from gdmunet.encoders.weight_files import check_forms
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.formats import FileFormat
from gdmunet.plans import EncoderLevel
from gdmunet.ranges import counted_as, within
from gdmunet.serialization import parse_as

# Keeps the variance: 1 / standard deviation of SiLU of a standard normal number.
_SILU_GAIN = 1.787
_HEADER_KEY = "gdmunet_encoder"
_FOREIGN = "the file is not an encoder of gdm_pretrain_encoder, or it is damaged"


def _upgrade_1_to_2(header: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has a level at stride 1."""
    return {**header, "fine": 0}


_FORMAT = FileFormat("encoder", (_upgrade_1_to_2,), key="format")


@dataclass(frozen=True)
class _EncoderHeader:
    dimensions: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    fine: int
    recipe: dict[str, Any] = field(default_factory=dict)
    format: int = _FORMAT.version

    def __post_init__(self) -> None:
        within("the dimensions of an encoder", self.dimensions, 2, 3)
        within("the stages of an encoder", len(self.widths), 1, 8)
        counted_as("the blocks of an encoder", self.blocks, len(self.widths))
        within("the widths of an encoder", self.widths, 1, 4096)
        within("the blocks of an encoder", self.blocks, 0, 32)
        within("the filters at stride 1", self.fine, 0, 4096)


def _activate(values: torch.Tensor) -> torch.Tensor:
    return functional.silu(values) * _SILU_GAIN


class ResidualBlock(nn.Module):
    """x + gain * convolution(SiLU(convolution(SiLU(x)))); SiLU is smooth, so gradients never die."""

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.first = convolution(width, width, 3, padding=1)
        self.second = convolution(width, width, 3, padding=1)
        self.gain = nn.Parameter(torch.full((width, *(1,) * dimensions), 0.7))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) to the same shape."""
        change: torch.Tensor = self.second(_activate(self.first(_activate(values))))
        return values + self.gain * change


class ResidualEncoder(nn.Module):
    """Cells of 2 voxels per side become vectors; stages at strides 2, 4, 8 and 16 refine them.

    Every cell covers exactly its own stride of voxels (kernels of the size of their stride between the stages), so
    location i of a level lies over voxels i * stride on. A patch of 32 has two cells per side on the deepest level.

    Parameters
    ----------
    dimensions
        2 or 3.
    widths
        Channels of every stage.
    blocks
        Residual blocks of every stage.
    fine
        Filters of the level at stride 1, which is a branch of its own; 0: no such level.
    """

    fine: FineLevel | None

    def __init__(
        self,
        dimensions: int = 3,
        widths: Sequence[int] = (16, 48, 96, 128),
        blocks: Sequence[int] = (1, 1, 2, 1),
        fine: int = 0,
    ) -> None:
        super().__init__()
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.dimensions, self.widths, self.blocks = dimensions, tuple(widths), tuple(blocks)
        self.downs = nn.ModuleList(
            convolution(before, width, 2, stride=2) for before, width in zip((1, *widths), widths, strict=False)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(dimensions, width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        for level, width in enumerate(self.widths):
            self.register_buffer(f"mean_{level}", torch.zeros(width))
            self.register_buffer(f"scale_{level}", torch.ones(width))
        for module in self.modules():
            # Weights without data need no draw, and PyTorch imports its compiler to draw them.
            if isinstance(module, nn.Conv2d | nn.Conv3d) and not module.weight.is_meta:
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=fan_in**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Last, so that the other weights are drawn alike with and without it.
        self.fine = FineLevel(dimensions, fine) if fine else None

    def reset_parameters(self) -> None:
        """Parameters beside those of the convolutions: gains and the constants of `calibrate`."""
        for name, value in [*self.named_parameters(), *self.named_buffers()]:
            fill = 0.7 if name.endswith(".gain") else 0.0 if name.startswith("mean_") else 1.0
            if name.endswith(".gain") or name.startswith(("mean_", "scale_")):
                value.data.fill_(fill)

    @property
    def levels(self) -> tuple[EncoderLevel, ...]:
        """Name, channels and stride of every map, finest first."""
        return self.trunk_levels if self.fine is None else (self.fine.level, *self.trunk_levels)

    @property
    def trunk_levels(self) -> tuple[EncoderLevel, ...]:
        """The levels of the stages, which `maps` gives."""
        strides = [2 ** (level + 1) for level in range(len(self.widths))]
        return tuple(
            EncoderLevel(f"stride_{stride}", width, (stride,) * self.dimensions)
            for stride, width in zip(strides, self.widths, strict=True)
        )

    @property
    def divisor(self) -> int:
        """Input sizes must be multiples of it."""
        return 1 << len(self.widths)

    def drop_behind(self, depth: int) -> None:
        """Keep the first `depth` levels alone."""
        kept = depth - (self.fine is not None)
        self.downs, self.stages = self.downs[:kept], self.stages[:kept]
        for level in range(kept, len(self.widths)):
            delattr(self, f"mean_{level}")
            delattr(self, f"scale_{level}")
        self.widths, self.blocks = self.widths[:kept], self.blocks[:kept]

    def cells(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, 1, ...) to the vectors of the finest cells (B, C, ...), which pretraining masks."""
        cells: torch.Tensor = self.downs[0](volume)
        return cells

    def maps(self, cells: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps from the finest cells, as they are."""
        maps = []
        for level, stage in enumerate(self.stages):
            cells = stage(self.downs[level](_activate(cells)) if level else cells)
            maps.append(cells)
        return maps

    def forward(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, ...) to one map per level, each channel with about mean 0 and standard deviation 1 on images.

        At stride 1 it is the deviation inside windows that is 1.
        """
        shape = (-1, *(1,) * self.dimensions)
        fine = [] if self.fine is None else [self.fine(volume)]
        trunk = self.maps(self.cells(volume)) if self.widths else []
        return fine + [
            (values - getattr(self, f"mean_{level}").view(shape)) / getattr(self, f"scale_{level}").view(shape)
            for level, values in enumerate(trunk)
        ]

    @torch.no_grad()
    def calibrate(self, volumes: torch.Tensor) -> None:
        """Set the constants that give every channel mean 0 and standard deviation 1 over `volumes` (B, 1, ...)."""
        for level, values in enumerate(self.maps(self.cells(volumes))):
            axes = (0, *range(2, values.ndim))
            getattr(self, f"mean_{level}").copy_(values.mean(axes))
            # A floor, so that a channel that hardly varies is not blown up to noise.
            scale = values.std(axes)
            getattr(self, f"scale_{level}").copy_(scale.clamp_min(0.1 * float(scale.median()) + 1e-6))
        if self.fine is not None:
            self.fine.calibrate(volumes)


class WeightStandardisation(nn.Module):
    """Weights of every output channel with mean 0 and length `gain` (Qiao et al. 2019; Brock et al. 2021)."""

    def __init__(self, outputs: int, dimensions: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(outputs, *(1,) * (dimensions + 1)))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        axes = tuple(range(1, weight.ndim))
        centred = weight - weight.mean(axes, keepdim=True)
        return self.gain * centred / (centred.square().sum(axes, keepdim=True) + 1e-8).sqrt()


def standardise_weights(network: nn.Module) -> None:
    """Train `network` with standardised weights, all but the first layer (whose mean is the intensity itself)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.in_channels > 1:
            parametrize.register_parametrization(
                module, "weight", WeightStandardisation(module.out_channels, module.weight.ndim - 2)
            )


def bake_weights(network: nn.Module) -> None:
    """End `standardise_weights`: the standardised weights become plain ones, the network computes the same."""
    for module in network.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def random_encoder(dimensions: int, seed: int, **numbers: Any) -> ResidualEncoder:
    """A network with seeded random weights; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would seed the generators of all GPUs as well.
        torch.default_generator.manual_seed(seed)
        return ResidualEncoder(dimensions, **numbers)


def save_encoder(network: ResidualEncoder, file: Path, recipe: dict[str, object]) -> None:
    """Write a plain (baked) network in half precision with its numbers and its origin in the header."""
    header = {
        _FORMAT.key: _FORMAT.version,
        "dimensions": network.dimensions,
        "widths": network.widths,
        "blocks": network.blocks,
        "fine": network.fine.channels if network.fine else 0,
        "recipe": recipe,
    }
    tensors = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    with atomic_path(file, SafetensorError) as temporary:
        save_file(tensors, str(temporary), metadata={_HEADER_KEY: json.dumps(header)})


def load_encoder_file(file: Path) -> ResidualEncoder:
    """The network of a file that `save_encoder` wrote, float32.

    Raises
    ------
    GdmError
        Missing, damaged or foreign file.
    """
    if not file.is_file():
        raise GdmError("the encoder's weight file is missing", file=file, remedy="check the path")
    expected = "an encoder.safetensors that gdm_pretrain_encoder wrote"
    with (
        reading(_FOREIGN, file, expected=expected, remedy="copy it again, or pretrain again"),
        safe_open(str(file), framework="pt", device="cpu") as stored,
    ):
        header = parse_as(_EncoderHeader, (stored.metadata() or {})[_HEADER_KEY], "encoder", _FORMAT)
        with torch.device("meta"):
            blank = ResidualEncoder(header.dimensions, header.widths, header.blocks, header.fine)
        check_forms(stored, blank)
        network = ResidualEncoder(header.dimensions, header.widths, header.blocks, header.fine)
        network.load_state_dict({name: stored.get_tensor(name).float() for name in blank.state_dict()})
    return network
