"""A small model folder and small volumes for the tests of prediction."""

from pathlib import Path

import numpy as np
import torch

from gdmunet.checkpoint import CheckpointMetadata, save_weights
from gdmunet.dataset import DatasetDescriptor
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import Configuration, MemoryFootprint, NormalizationSpec, Plans
from gdmunet.results import CheckpointName, ResultsFolder
from gdmunet.serialization import save_json

SPACING = (2.0, 1.5, 1.0)
CT = NormalizationSpec("affine", (-1024.0, 3071.0), -100.0, 400.0)


def make_descriptor(channels: int = 1, target: str = "CT") -> DatasetDescriptor:
    return DatasetDescriptor({str(i): "CT" for i in range(channels)}, target, ".nii.gz", 4, "Test")


def make_configuration(patch: tuple[int, ...] = (8, 8, 8), channels: int = 1, **changes) -> Configuration:
    n = len(patch)
    network = NetworkSpec(
        in_channels=channels,
        out_channels=1,
        features=(4, 8),
        strides=((1,) * n, (2,) * n),
        kernel_sizes=((3,) * n,) * 2,
        encoder_blocks=(1, 1),
        decoder_blocks=(1,),
        block="plain",
        norm="instance",
    )
    fields = {
        "name": f"{n}d",
        "transpose": (0, 1, 2),
        "spacing": SPACING[3 - n :],
        "median_shape": (20, 20, 20),
        "patch_size": patch,
        "batch_size": 2,
        "condition_normalization": (CT,) * channels,
        "target_normalization": CT,
        "background": -1024.0,
        "order": 3,
        "network": network,
        "predicted_memory": MemoryFootprint(1, 1, 1, 1, 1),
    }
    return Configuration(**{**fields, **changes})


def make_plans(configuration: Configuration, descriptor: DatasetDescriptor, **changes) -> Plans:
    fields = {
        "dataset_name": "Dataset999_Test",
        "name": "plain",
        "planner": "plain",
        "trainer": "FidelityTrainer",
        "precision": "float32",
        "memory_budget_gb": 1.0,
        "dataset": descriptor,
        "fingerprint_hash": "",
        "configurations": {configuration.name: configuration},
        "folds": (),
    }
    return Plans(**{**fields, **changes})


def make_model(
    results: Path,
    folds: tuple[str, ...] = ("0", "1"),
    patch: tuple[int, ...] = (8, 8, 8),
    checkpoint: CheckpointName = "best",
    descriptor: DatasetDescriptor | None = None,
) -> Path:
    """A model folder whose networks have random weights."""
    configuration, descriptor = make_configuration(patch), descriptor or make_descriptor()
    plans = make_plans(configuration, descriptor)
    model = ResultsFolder(results).model(plans.dataset_name, "FidelityTrainer", plans.name, configuration.name)
    save_json(plans, model.plans)
    for fold in folds:
        torch.manual_seed(len(fold) + ord(fold[0]))
        metadata = CheckpointMetadata("FidelityTrainer", "plain", configuration.name, fold, 1, 10)
        network = build_network(configuration.network)
        save_weights(model.fold(fold).checkpoint(checkpoint), network.state_dict(), configuration.network, metadata)
    return model.path


def make_head(shape: tuple[int, int, int] = (20, 22, 24), seed: int = 0) -> np.ndarray:
    """A ball of noisy tissue in air, in whole HU as scanners give them; no two octants are alike."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(a**2 for a in axes) < 0.8
    tissue = random.normal(40, 60, shape) + 300 * axes[0] - 100 * axes[1] + 50 * axes[2]
    return np.where(inside, tissue, -1024).round().astype(np.float32)


def body_of(head: np.ndarray) -> np.ndarray:
    return head > -1000
