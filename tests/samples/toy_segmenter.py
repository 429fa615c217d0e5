"""A small nnU-Net model folder with the network that planning makes, and plans whose encoder it is."""

import atexit
import dataclasses
import functools
import json
import shutil
import tempfile
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn
from toy import toy_network

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.plans import Configuration, EncoderSpec

STATISTICS = {"mean": 40.0, "std": 300.0, "percentile_00_5": -900.0, "percentile_99_5": 1100.0}


def write_segmenter(root: Path, dimensions: int = 3, kind: type[nn.Module] = PlainConvUNet) -> tuple[Path, nn.Module]:
    """A model folder of nnU-Net with random weights, three stages as planned, and its network."""
    planned = toy_network(dimensions)
    layers = ("conv_op", f"Conv{dimensions}d"), ("norm_op", f"InstanceNorm{dimensions}d"), ("nonlin", "LeakyReLU")
    arguments = {
        "n_stages": len(planned.features),
        "features_per_stage": [4 * 2**stage for stage in range(len(planned.features))],
        "kernel_sizes": [list(kernel) for kernel in planned.kernel_sizes],
        "strides": [list(stride) for stride in planned.strides],
        "n_conv_per_stage" if kind is PlainConvUNet else "n_blocks_per_stage": list(planned.encoder_blocks),
        "n_conv_per_stage_decoder": list(planned.decoder_blocks),
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin_kwargs": {"inplace": True},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classes = {key: getattr(nn, name) for key, name in layers}
        network = kind(input_channels=1, num_classes=3, deep_supervision=False, **arguments, **classes).eval()
    folder = root / "nnUNetTrainer__nnUNetPlans__own"
    (folder / "fold_0").mkdir(parents=True)
    architecture = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind.__name__}",
        "arch_kwargs": arguments | {key: f"torch.nn.{name}" for key, name in layers},
        "_kw_requires_import": [key for key, _ in layers],
    }
    own = {"normalization_schemes": ["CTNormalization"], "architecture": architecture}
    plans = {
        "dataset_name": "Dataset001_Organs",
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": STATISTICS},
        "configurations": {"own": own},
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    torch.save({"network_weights": network.state_dict()}, folder / "fold_0" / "checkpoint_final.pth")
    return folder, network


@functools.cache
def segmenter_folder(dimensions: int) -> Path:
    """The same folder for all tests of a process; it goes at its end."""
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return write_segmenter(root, dimensions)[0]


def segmenter(units: VolumeUnits, dimensions: int = 3) -> tuple[EncoderSpec, FrozenEncoder]:
    """The toy segmenter as planning pins it, and its module."""
    spec = f"segmenter:{segmenter_folder(dimensions)}"
    choice = choose_encoder(spec, units, dimensions, EncoderOptions(Path("no cache")))
    assert choice.spec is not None
    assert choice.encoder is not None
    return choice.spec, choice.encoder


def fitting(kind, configuration: Configuration) -> Configuration:
    """The configuration with the toy segmenter if a trainer needs a decoder, else as it is."""
    if not kind.reads_decoder:
        return configuration
    spec, _ = segmenter(VolumeUnits.of(configuration, "CT"), configuration.dimensions)
    return dataclasses.replace(configuration, encoder=spec)


def toy_for(kind, toy):
    """The toy data set with plans that have what a trainer needs."""
    plans, folders = toy
    configurations = {name: fitting(kind, one) for name, one in plans.configurations.items()}
    return dataclasses.replace(plans, configurations=configurations), folders
