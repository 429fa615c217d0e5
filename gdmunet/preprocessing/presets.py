"""The kinds of network that planning can choose: the numbers that a preset fixes before any data set is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gdmunet.device_memory import usable_bytes
from gdmunet.network_spec import NetworkSpec
from gdmunet.plan_names import PresetName
from gdmunet.preprocessing.topology import Topology


def normalization_layer(residual_channel: int | None) -> Literal["batch", "none"]:
    """None where the network predicts a change of a condition, batch norm elsewhere.

    nnU-Net's instance norm removes a window's intensity level: a correction in the same unit needs it, and a
    prediction then depends on the rest of the window, so that windows do not agree where they overlap. Batch norm
    starts as fast and is a fixed map at prediction. Measured in documentation/benchmarks.md.
    """
    return "batch" if residual_channel is None else "none"


@dataclass(frozen=True)
class Preset:
    """A family of networks, and the rules for the size of its patch.

    Attributes
    ----------
    encoder_blocks
        Convolutions (plain) or residual blocks of each encoder stage; the last number repeats.
    decoder_block
        Convolutions of every decoder stage.
    card_gb
        Memory of the card that it is meant for, in GB of 1e9 bytes.
    dataset_share
        Largest share of the data set's voxels that one batch may hold.
    first_edge_3d, first_edge_2d
        Edge in voxels of the cube or square whose voxels the first patch has, before clipping and shrinking.
    max_poolings
        Limit of stages - 1; None: as the patch allows.
    batch_size
        A fixed batch size, or None: what fits.
    fills_card
        Whether a larger card is used as well.
    """

    name: PresetName
    block: Literal["plain", "residual"]
    encoder_blocks: tuple[int, ...]
    decoder_block: int
    card_gb: float
    dataset_share: float
    base_features: int = 32
    max_features_3d: int = 320
    max_features_2d: int = 512
    first_edge_3d: int = 256
    first_edge_2d: int = 2048
    max_poolings: int | None = None
    batch_size: int | None = None
    fills_card: bool = False

    def network(self, topology: Topology, in_channels: int, residual_channel: int | None) -> NetworkSpec:
        """The network of this preset for a topology: widths double from stage to stage up to the largest."""
        stages = topology.stages
        largest = self.max_features_3d if len(topology.patch_size) == 3 else self.max_features_2d
        blocks = self.encoder_blocks + self.encoder_blocks[-1:] * stages
        return NetworkSpec(
            in_channels=in_channels,
            out_channels=1,
            features=tuple(min(largest, self.base_features * 2**i) for i in range(stages)),
            strides=topology.strides,
            kernel_sizes=topology.kernel_sizes,
            encoder_blocks=blocks[:stages],
            decoder_blocks=(self.decoder_block,) * (stages - 1),
            block=self.block,
            norm=normalization_layer(residual_channel),
            residual_channel=residual_channel,
        )


def budget_gb(preset: Preset, free_gb: float | None) -> float:
    """GB that the counted tensors of one step may take: min(0.9 x card, card - 1.5 GB) of the preset's card.

    Parameters
    ----------
    free_gb
        Free memory of the GPU, of which no more is planned for, and all by a preset that fills the card; None: no GPU
        is at hand, and the preset's card is planned for.
    """
    card = preset.card_gb
    if free_gb is not None:
        card = free_gb if preset.fills_card else min(card, free_gb)
    return usable_bytes(1e9 * card) / 1e9


_RESIDUAL_BLOCKS = (1, 3, 4, 6)

PRESETS: dict[PresetName, Preset] = {
    "plain": Preset("plain", "plain", (2,), 2, 8.0, 0.05, fills_card=True),
    "M": Preset("M", "residual", _RESIDUAL_BLOCKS, 1, 8.0, 1.0),
    "L": Preset("L", "residual", _RESIDUAL_BLOCKS, 1, 24.0, 1.0),
    "XL": Preset("XL", "residual", _RESIDUAL_BLOCKS, 1, 40.0, 1.0),
    # For CPUs and for learning: minutes instead of days. Its steps have 2 GB.
    "tiny": Preset(
        "tiny",
        "plain",
        (2,),
        2,
        3.5,
        1.0,
        base_features=8,
        max_features_3d=64,
        max_features_2d=64,
        first_edge_3d=48,
        first_edge_2d=256,
        max_poolings=4,
        batch_size=2,
    ),
}
