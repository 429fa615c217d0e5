"""A stand-in for a model hub, units of volumes, and encoders of our own for tests."""

from pathlib import Path

import pytest
import torch
from loopback_hub import hub  # noqa: F401
from toy_fixture import toy  # noqa: F401

from gdmunet.encoders.base import VolumeUnits
from gdmunet.plans import NormalizationSpec

OWN_ENCODER = """
import torch
from torch import nn
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.plans import EncoderLevel


class Own(FrozenEncoder):
    window = (-500.0, 500.0)
    licence = "CC0"

    def __init__(self, units, dimensions, seed):
        levels = (EncoderLevel("fine", 4, (2,) * dimensions),)
        super().__init__(levels, units, dimensions=dimensions, divisor=2)
        torch.manual_seed(seed)
        self.convolution = (nn.Conv3d if dimensions == 3 else nn.Conv2d)(1, 4, 3, stride=2, padding=1)

    def scale(self, raw):
        return raw.clamp(-500, 500) / 500

    def features(self, volume):
        return [self.convolution(volume)]


def factory(file, units, dimensions, trust_checkpoint):
    return Own(units, dimensions, seed=0)


def other(file, units, dimensions, trust_checkpoint):
    return Own(units, dimensions, seed=1)


def wrong(file, units, dimensions, trust_checkpoint):
    return nn.Identity()
"""


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def own_encoder(tmp_path) -> Path:
    """A Python file with the factories ``factory``, ``other`` and ``wrong``."""
    file = tmp_path / "own_encoder.py"
    file.write_text(OWN_ENCODER)
    return file


@pytest.fixture
def ct_units() -> VolumeUnits:
    return VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), -200.0, 400.0), -1000.0, "CT")


@pytest.fixture
def mr_units() -> VolumeUnits:
    return VolumeUnits(NormalizationSpec("affine", (0.0, 900.0), 300.0, 120.0), 0.0, "T1")
