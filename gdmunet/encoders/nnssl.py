"""Self-supervised ResEnc-L checkpoints of the OpenMind benchmark (nnssl): 3D MR (and newer ones CT), 1 mm, z-score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import nn

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.convolutional import ConvolutionalEncoder
from gdmunet.encoders.weight_files import channels_of, fill, read_weights
from gdmunet.errors import GdmError

FEATURES = (32, 64, 128, 256, 320, 320)
_BLOCKS = (1, 3, 4, 6, 6, 6)
_STRIDES = ((1, 1, 1), *(((2, 2, 2),) * 5))


def residual_encoder_l(features: Sequence[int] = FEATURES) -> nn.Module:
    """The encoder of nnU-Net's ResEnc-L with one input channel; 90.3 M weights."""
    network: nn.Module = ResidualEncoder(
        1,
        len(features),
        list(features),
        nn.Conv3d,
        [[3, 3, 3]] * len(features),
        [list(stride) for stride in _STRIDES],
        list(_BLOCKS),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        return_skips=True,
    )
    return network


def build(file: Path | None, units: VolumeUnits, _dimensions: int, trust_checkpoint: bool = False) -> FrozenEncoder:
    """``nnssl:FILE``: 32 @ 1, 64 @ 2, 128 @ 4, 256 @ 8, 320 @ 16, 320 @ 32."""
    if file is None:
        raise GdmError("nnssl needs a checkpoint", expected="nnssl:FILE", remedy="name the file of the weights")
    weights = read_weights(file, trust_checkpoint)
    stages = range(len(FEATURES))
    features = [channels_of(weights, f"encoder.stages.{stage}.blocks.0.conv1.conv.weight", file) for stage in stages]
    network = residual_encoder_l(features)
    fill(network, weights, file, prefix="encoder.")
    return ConvolutionalEncoder(network, units, features, _STRIDES)
