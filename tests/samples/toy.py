"""A tiny prepared data set with a learnable relation: target = condition smoothed and scaled, in HU."""

from pathlib import Path

import numpy as np

from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.geometry import Geometry
from gdmunet.imageio import CaseVolumes
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import Configuration, EncoderSpec, MemoryFootprint, NormalizationSpec
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology

PATCH = (16, 16, 16)
DATASET = "Dataset901_Toy"
HU = NormalizationSpec("affine", (-1024.0, 3071.0), offset=0.0, scale=500.0)


def toy_network(dimensions: int = 3, residual_channel: int | None = None) -> NetworkSpec:
    """The network that planning makes with the preset tiny: three stages."""
    topology = plan_topology((1.0,) * dimensions, PATCH[:dimensions])
    return PRESETS["tiny"].network(topology, 1, residual_channel)


def tiny_encoder(dimensions: int = 3) -> EncoderSpec:
    """The seeded random encoder, pinned as planning pins it."""
    units = VolumeUnits(HU, -1024.0, "CT")
    spec = choose_encoder("tiny", units, dimensions, EncoderOptions(Path("no cache"))).spec
    assert spec is not None
    return spec


def toy_configuration(name: str = "3d_fullres") -> Configuration:
    dimensions = 2 if name == "2d" else 3
    return Configuration(
        name=name,
        transpose=(0, 1, 2),
        spacing=(1.0,) * dimensions,
        median_shape=(20, 20, 20),
        patch_size=PATCH[:dimensions],
        batch_size=2,
        condition_normalization=(NormalizationSpec("percentile_zscore", (0.5, 99.5)),),
        target_normalization=HU,
        background=-1024.0,
        order=3,
        network=toy_network(dimensions),
        predicted_memory=MemoryFootprint(0, 0, 0, 0, 0),
        encoder=tiny_encoder(dimensions),
    )


def toy_volumes(identifier: str, seed: int) -> CaseVolumes:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij")).astype(np.float32)
    centre = rng.uniform(8, 12, size=(3, 1, 1, 1))
    radius = np.sqrt(((grid - centre) ** 2).sum(axis=0))
    mask = radius < 9
    target = np.where(mask, 60.0 * (6 - radius), -1000.0).astype(np.float32)
    condition = np.where(mask, 300 - 20 * radius + rng.normal(0, 2, mask.shape), 0).astype(np.float32)
    return CaseVolumes(identifier, condition[None], target, mask, Geometry((20, 20, 20), (1.0, 1.0, 1.0)))
