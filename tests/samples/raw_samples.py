"""Small raw data sets, and configurations to prepare them with."""

import json

import numpy as np
import pytest

from gdmunet.dataset import DatasetDescriptor
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import Configuration, MemoryFootprint, NormalizationSpec, Plans

SHAPE = (14, 18, 16)


@pytest.fixture
def make_configuration():
    """A configuration; every part can be replaced."""

    def make(spacing=(4.0, 4.0, 4.0), transpose=(0, 1, 2), patch=(8, 8, 8), conditions=("affine",), order=3, **others):
        network = NetworkSpec(
            len(conditions), 1, (4, 8), ((1,) * len(patch), (2,) * len(patch)), ((3,) * len(patch),) * 2,
            (1, 1), (1,), "plain", "instance",
        )  # fmt: skip
        specs = {
            "affine": NormalizationSpec("affine", (-1024.0, 3071.0), -200.0, 500.0),
            "percentile_zscore": NormalizationSpec("percentile_zscore", (0.5, 99.5)),
        }
        values = {
            "name": "3d_fullres",
            "transpose": transpose,
            "spacing": spacing,
            "median_shape": SHAPE,
            "patch_size": patch,
            "batch_size": 2,
            "condition_normalization": tuple(specs[name] for name in conditions),
            "target_normalization": specs["affine"],
            "background": -1024.0,
            "order": order,
            "network": network,
            "predicted_memory": MemoryFootprint(0, 0, 0, 0, 0),
        }
        return Configuration(**{**values, **others})

    return make


@pytest.fixture
def make_plans(make_configuration):
    """Plans of the data set that `raw_dataset` makes."""

    def make(configuration=None, name="plans", channels=("CT",), mask=True):
        descriptor = DatasetDescriptor(dict(zip("0123", channels, strict=False)), "CT", ".nii.gz", 3, mask=mask)
        configurations = {"3d_fullres": configuration or make_configuration()}
        return Plans("Dataset007_Heads", name, "plain", "T", "float32", 8.0, descriptor, "", configurations, ())

    return make


def ct_volume(seed=0, shape=SHAPE):
    """A ball of tissue in air, int16 HU, and its mask."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    mask = (grid**2).sum(0) < 0.8
    array = np.where(mask, 40 + rng.normal(0, 20, shape), -1000 + rng.normal(0, 5, shape))
    return array.round().astype(np.int16), mask


@pytest.fixture
def raw_dataset(tmp_path):
    """A folder Dataset007_Heads of three CT to CT cases with masks."""

    def make(cases=3, mask=True, channels=("CT",), tests=0):
        folder = tmp_path / "raw" / "Dataset007_Heads"
        for split, count in (("Tr", cases), ("Ts", tests)):
            for index in range(count):
                array, body = ct_volume(index)
                geometry = Geometry(SHAPE, (4.0, 4.0, 4.0), (5.0, 6.0, 7.0))
                name = f"case_{index}"
                for channel in range(len(channels)):
                    write_volume(folder / f"images{split}/{name}_{channel:04d}.nii.gz", array + channel, geometry)
                write_volume(folder / f"targets{split}/{name}.nii.gz", array, geometry)
                if mask:
                    write_volume(folder / f"masks{split}/{name}.nii.gz", body, geometry)
        descriptor = {
            "channel_names": {str(i): name for i, name in enumerate(channels)},
            "target_name": "CT",
            "file_ending": ".nii.gz",
            "numTraining": cases,
            "mask": mask,
        }
        (folder / "dataset.json").write_text(json.dumps(descriptor))
        return folder

    return make
