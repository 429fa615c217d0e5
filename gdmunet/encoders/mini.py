"""`mini`, the encoder inside the package, and its forms: `mini-random`, `mae:FOLDER` of the user's data, and `tiny`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.fine import FINE_CHANNELS, load_fine_level
from gdmunet.encoders.residual import ResidualEncoder, load_encoder_file, random_encoder
from gdmunet.errors import GdmError

WEIGHTS = Path(__file__).parent / "weights"
_TINY = {"widths": (8, 16, 32, 48), "blocks": (1, 1, 1, 1)}
# One unit of the squash below in HU: soft tissue is resolved best, air and bone are still told apart.
_HU_UNIT = 250.0


class MiniEncoder(FrozenEncoder):
    """A `ResidualEncoder` with its scaling of raw units.

    Parameters
    ----------
    network
        Network with weights.
    units
        Units of the volumes that come in.
    """

    def __init__(self, network: ResidualEncoder, units: VolumeUnits) -> None:
        super().__init__(network.levels, units, dimensions=network.dimensions, divisor=network.divisor)
        self.network = network
        self.freeze()

    def scale(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw units to about -1 to 1.5; see `network_input`."""
        return network_input(raw, self.units)

    def drop_behind(self, depth: int) -> None:
        """Stages behind the last level."""
        self.network.drop_behind(depth)

    def features(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """Maps at strides 2, 4, 8, 16, and at stride 1 where the network has that level."""
        maps: list[torch.Tensor] = self.network(volume)
        return maps


def network_input(raw: torch.Tensor, units: VolumeUnits) -> torch.Tensor:
    """Map raw units to the input of these networks: asinh of HU / 250, or of 2 (x - mean) / SD, half of it each.

    CT: air lies at -1, water at 0, dense bone at 1.4. Everything else uses the constants of the plans, about -1 to 1.5
    inside the body. Statistics of the patch at hand are not used: they would make a voxel's features depend on its
    whole patch, and explode on flat ones.
    """
    if units.hounsfield:
        return squash(raw / _HU_UNIT)
    return squash(2 * (raw - units.target.offset) / units.target.scale)


def squash(values: torch.Tensor) -> torch.Tensor:
    """asinh(values) / 2: smooth, monotone, never flat.

    A hard window has no gradient outside itself: a generator that leaves it would never come back.
    """
    return torch.asinh(values) / 2


def build_mini(
    file: Path | None, units: VolumeUnits, dimensions: int, _trust_checkpoint: bool = False
) -> FrozenEncoder:
    """`mini` from the package, or from `file`; trusted either way, safetensors hold no code.

    The package keeps the level at stride 1 in a file of its own, beside the stages, which the first version has too.
    """
    if file is not None:
        return _build(file, units, dimensions)
    network = _load(mini_file(dimensions), dimensions)
    network.fine = load_fine_level(fine_file(dimensions))
    return MiniEncoder(network, units)


def build_first_mini(
    file: Path | None, units: VolumeUnits, dimensions: int, _trust_checkpoint: bool = False
) -> FrozenEncoder:
    """`mini` of the first version, which plans of version 1 name: the same stages, no level at stride 1."""
    return _build(file or mini_file(dimensions), units, dimensions)


def build_mae(file: Path | None, units: VolumeUnits, dimensions: int, _trust_checkpoint: bool = False) -> FrozenEncoder:
    """An encoder that `gdm_pretrain_encoder` wrote: its ``encoder.safetensors``, or the run folder that holds it."""
    if file is None:
        raise GdmError(
            "mae needs a run folder", expected="mae:FOLDER", remedy="pretrain an encoder, and give its folder"
        )
    file = Path(file)
    return _build(file / "encoder.safetensors" if file.is_dir() else file, units, dimensions)


def build_tiny(
    _file: Path | None, units: VolumeUnits, dimensions: int, _trust_checkpoint: bool = False
) -> FrozenEncoder:
    """0.2 M seeded random weights: for tests of plumbing, never a claim about quality."""
    return MiniEncoder(random_encoder(dimensions, 0, **_TINY), units)


def build_random_filters(
    _file: Path | None, units: VolumeUnits, dimensions: int, _trust_checkpoint: bool = False
) -> FrozenEncoder:
    """The network of `mini` with filters that were never trained, the same on every machine.

    Weights and biases are uniform within one over the root of their inputs, as PyTorch starts its layers. The numbers
    are NumPy's, whose old generator never changes its streams, and exact until they are rounded to float32.
    """
    network = random_encoder(dimensions, 0, fine=FINE_CHANNELS)  # which leaves global random numbers alone
    draws = np.random.RandomState(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in (module.weight, module.bias):
                assert parameter is not None
                drawn = bound * (2 * draws.random_sample(tuple(parameter.shape)) - 1)
                parameter.data.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return MiniEncoder(network, units)


def random_mini(units: VolumeUnits, dimensions: int, seed: int = 0) -> FrozenEncoder:
    """The network of `mini` with random weights: the ablation that shows what pretraining gives."""
    return MiniEncoder(random_encoder(dimensions, seed, fine=FINE_CHANNELS), units)


def mini_file(dimensions: int) -> Path:
    """Weight file of the stages of `mini` inside the package."""
    return WEIGHTS / f"mini_{dimensions}d.safetensors"


def fine_file(dimensions: int) -> Path:
    """Weight file of the level at stride 1 of `mini` inside the package."""
    return WEIGHTS / f"mini_fine_{dimensions}d.safetensors"


def _build(file: Path, units: VolumeUnits, dimensions: int) -> FrozenEncoder:
    return MiniEncoder(_load(file, dimensions), units)


def _load(file: Path, dimensions: int) -> ResidualEncoder:
    network = load_encoder_file(file)
    if network.dimensions != dimensions:
        raise GdmError(
            "the encoder and the plans differ in their number of dimensions",
            file=file,
            found=f"{network.dimensions}D",
            expected=f"{dimensions}D",
            remedy=f"pretrain an encoder with --dimensions {dimensions}, or use mini",
        )
    return network
