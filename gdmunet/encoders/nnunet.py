"""The encoder of a trained nnU-Net v2 model, such as TotalSegmentator's, alone or with its decoder.

It is read from plans.json and checkpoint_final.pth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.building_blocks.unet_residual_decoder import UNetResDecoder
from torch import Tensor, nn

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.convolutional import ConvolutionalEncoder, EncoderAndDecoder, RangeEncoder
from gdmunet.encoders.weight_files import fill, read_weights
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.network_spec import NetworkSpec
from gdmunet.serialization import read_json

# The networks of nnU-Net whose encoder is known. ResidualUNet has the same encoder as ResidualEncoderUNet.
_PLAIN, _RESIDUAL = ("PlainConvUNet",), ("ResidualEncoderUNet", "ResidualUNet")
_RESIDUAL_DECODER = "ResidualUNet"
_DECODER_BLOCKS = "n_conv_per_stage_decoder"
_DECODER = (_DECODER_BLOCKS, "num_classes", "deep_supervision")
# Names in a model folder of nnU-Net, which are its own.
_PLANS_FILE = "plans.json"
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
# nnU-Net learns the axes as its files have them, most often SPL, and mirrors them while training. TotalSegmentator
# brings files to RAS first and trains without mirroring, so its arrays (z, y, x) run SAR.
_ORIENTATIONS = {"TotalSegmentator": "SAR"}


@dataclass(frozen=True)
class NnunetModel:
    """The parts of a model folder that an encoder needs.

    Attributes
    ----------
    network, arguments
        Class name of the whole network, and its arguments.
    transpose
        Array axis i of the network is axis ``transpose[i]`` of the file's (z, y, x).
    normalization, intensities
        Scheme of the only channel, and its statistics in the training data.
    """

    file: Path
    network: str
    arguments: dict[str, Any]
    transpose: tuple[int, ...]
    normalization: str
    intensities: Mapping[str, float]
    dataset: str


def build(file: Path | None, units: VolumeUnits, dimensions: int, trust_checkpoint: bool = False) -> FrozenEncoder:
    """``nnunet:MODEL_FOLDER``: a folder ``Trainer__Plans__configuration``, or a checkpoint in it; its own stages."""
    with _reading(file, "nnunet") as folder:
        return _build(_fitting_model(folder, dimensions), units, trust_checkpoint, _filled_encoder)


def build_segmenter(
    file: Path | None, units: VolumeUnits, dimensions: int, trust_checkpoint: bool = False
) -> FrozenEncoder:
    """``segmenter:MODEL_FOLDER``: the same, and the decoder's stages before their segmentation heads."""
    with _reading(file, "segmenter") as folder:
        return _build(_fitting_model(folder, dimensions), units, trust_checkpoint, _filled_whole)


@contextmanager
def _reading(file: Path | None, name: str) -> Iterator[Path]:
    if file is None:
        raise GdmError(
            f"{name} needs a model folder",
            expected=f"{name}:MODEL_FOLDER",
            remedy="name the folder of the trained model",
        )
    with reading("the nnU-Net model cannot be read", file, remedy="give a model folder of nnU-Net v2"):
        yield Path(file)


def _fitting_model(file: Path, dimensions: int) -> NnunetModel:
    """The model of a folder, if a network of its sizes and dimensions can be had."""
    model = read_model_folder(file)
    strides = model.arguments["strides"]
    if len(strides[0]) != dimensions:
        raise GdmError(
            "the nnU-Net model and the plans differ in their number of dimensions",
            file=file,
            found=f"{len(strides[0])}D",
            expected=f"{dimensions}D",
            remedy="name the folder of another configuration of it",
        )
    _check_sizes(model.arguments)
    return model


def _build(
    model: NnunetModel,
    units: VolumeUnits,
    trust_checkpoint: bool,
    filled: Callable[[NnunetModel, Mapping[str, Tensor]], nn.Module],
) -> FrozenEncoder:
    network = filled(model, read_weights(model.file, trust_checkpoint))
    kind, scaling = _scaling(model, units)
    prepared = next((axes for word, axes in _ORIENTATIONS.items() if word in model.dataset), "SPL")
    orientation = "".join(prepared[axis] for axis in model.transpose)
    channels, strides = model.arguments["features_per_stage"], model.arguments["strides"]
    return kind(network, units, channels, strides, orientation=orientation, **scaling)


def _filled_encoder(model: NnunetModel, weights: Mapping[str, Tensor]) -> nn.Module:
    network = _build_network(model)
    fill(network, weights, model.file, prefix="encoder.")
    return network


def _filled_whole(model: NnunetModel, weights: Mapping[str, Tensor]) -> EncoderAndDecoder:
    encoder = _filled_encoder(model, weights)
    kind = UNetResDecoder if model.network == _RESIDUAL_DECODER else UNetDecoder
    # The heads are not filled, and go: one class is enough to build them.
    decoder = kind(
        encoder,
        num_classes=1,
        n_conv_per_stage=model.arguments[_DECODER_BLOCKS],
        deep_supervision=False,
        nonlin_first=bool(model.arguments.get("nonlin_first", False)),
    )
    fill(decoder.transpconvs, weights, model.file, prefix="decoder.transpconvs.")
    fill(decoder.stages, weights, model.file, prefix="decoder.stages.")
    return EncoderAndDecoder(encoder, decoder.transpconvs, decoder.stages)


def read_model_folder(place: Path) -> NnunetModel:
    """Find checkpoint and plans, in the form of any nnU-Net v2 release."""
    file = checkpoint_file(place)
    folder = file.parent.parent if (file.parent.parent / _PLANS_FILE).is_file() else file.parent
    plans = read_json(folder / _PLANS_FILE)
    with reading(
        f"{_PLANS_FILE} is not that of nnU-Net v2", folder / _PLANS_FILE, expected="a model folder of nnU-Net v2"
    ):
        configuration = _configuration(plans["configurations"], folder.name.split("__")[-1])
        statistics = plans.get("foreground_intensity_properties_per_channel", {})
        network, arguments = _network(configuration)
        return NnunetModel(
            file=file,
            network=network,
            arguments=arguments,
            transpose=tuple(plans.get("transpose_forward", (0, 1, 2))),
            normalization=configuration["normalization_schemes"][0],
            intensities=statistics.get("0", {}),
            dataset=str(plans.get("dataset_name", "")),
        )


def checkpoint_file(place: Path) -> Path:
    """The checkpoint itself, or the first one in a model folder."""
    if place.is_file():
        return place
    for name in _CHECKPOINTS:
        checkpoints = sorted([*place.glob(f"fold_*/{name}"), *place.glob(name)])
        if checkpoints:
            return checkpoints[0]
    raise GdmError(
        "there is no checkpoint in the model folder",
        file=place,
        expected=f"fold_0/{_CHECKPOINTS[0]} and {_PLANS_FILE}",
        remedy="name the folder nnUNetTrainer__nnUNetPlans__3d_fullres itself",
    )


def _configuration(configurations: dict[str, Any], name: str) -> dict[str, Any]:
    if name not in configurations:
        raise GdmError(
            "the model folder's name does not say which configuration it holds",
            found=name,
            expected="Trainer__Plans__ and one of " + ", ".join(configurations),
            remedy="give the folder its nnU-Net name back",
        )
    own: dict[str, Any] = configurations[name]
    if parent := own.get("inherits_from"):
        return {**_configuration(configurations, parent), **own}
    return own


def _network(configuration: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Class name and arguments, from plans of release 2.4 and later or those before (TotalSegmentator's)."""
    if architecture := configuration.get("architecture"):
        arguments = {
            key: _import(value) if key in architecture["_kw_requires_import"] and value else value
            for key, value in architecture["arch_kwargs"].items()
        }
        return architecture["network_class_name"].rpartition(".")[2], arguments
    kernels = configuration["conv_kernel_sizes"]
    base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    flat = len(kernels[0]) == 2
    arguments = {
        "n_stages": len(kernels),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(kernels))],
        "conv_op": nn.Conv2d if flat else nn.Conv3d,
        "kernel_sizes": kernels,
        "strides": configuration["pool_op_kernel_sizes"],
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d if flat else nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    if _DECODER_BLOCKS in configuration:
        arguments[_DECODER_BLOCKS] = configuration[_DECODER_BLOCKS]
    blocks = configuration["n_conv_per_stage_encoder"]
    name = str(configuration["UNet_class_name"])
    return name, {**arguments, "n_conv_per_stage" if name in _PLAIN else "n_blocks_per_stage": blocks}


def _import(path: str) -> Any:
    """A layer named in plans.json; only those of torch.nn are allowed, since plans may come from anywhere.

    Functions are not: ``torch.load`` as an activation, with a file among its arguments, would run what lies in it.
    """
    name = path.rpartition(".")[2] if isinstance(path, str) and path.startswith("torch.nn.") else ""
    layer = getattr(nn, name, None)
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise GdmError(
            f"{_PLANS_FILE} names a layer that is not PyTorch's",
            found=path,
            expected="a class of torch.nn",
            remedy="use a model of nnU-Net's own architectures",
        )
    return layer


def _check_sizes(arguments: dict[str, Any]) -> None:
    """Sizes that a network of this machine can have, before it is built (GdmError)."""
    widths, strides = arguments["features_per_stage"], arguments["strides"]
    blocks = arguments["n_conv_per_stage" if "n_conv_per_stage" in arguments else "n_blocks_per_stage"]
    kernels, decoder_blocks = arguments["kernel_sizes"], arguments.get(_DECODER_BLOCKS, 1)
    stages, dimensions = len(widths), len(strides[0])
    NetworkSpec(
        in_channels=1,
        out_channels=1,
        features=tuple(widths),
        strides=tuple(map(tuple, strides)),
        kernel_sizes=tuple((n,) * dimensions if isinstance(n, int) else tuple(n) for n in kernels),
        encoder_blocks=(blocks,) * stages if isinstance(blocks, int) else tuple(blocks),
        decoder_blocks=(decoder_blocks,) * (stages - 1) if isinstance(decoder_blocks, int) else tuple(decoder_blocks),
        block="plain",
        norm="none",
    )


def _build_network(model: NnunetModel) -> nn.Module:
    if model.network not in _PLAIN + _RESIDUAL:
        raise GdmError(
            "the encoder of this nnU-Net network is not known",
            file=model.file,
            found=model.network,
            expected=", ".join(_PLAIN + _RESIDUAL),
            remedy="use it through a factory of your own: file.py:factory",
        )
    kept = {key: value for key, value in model.arguments.items() if key not in _DECODER}
    kind = PlainConvEncoder if model.network in _PLAIN else ResidualEncoder
    network: nn.Module = kind(input_channels=1, return_skips=True, **kept)
    return network


def _scaling(model: NnunetModel, units: VolumeUnits) -> tuple[type[ConvolutionalEncoder], dict[str, Any]]:
    """The scaling of the input by the model's normalisation scheme."""
    if model.normalization == "CTNormalization":
        if not units.hounsfield:
            raise GdmError(
                "the nnU-Net model was trained on CT",
                file=model.file,
                found=units.modality,
                expected="a target in HU",
                remedy="choose an encoder that was trained on images of the target's modality",
            )
        values = model.intensities
        clip = (float(values["percentile_00_5"]), float(values["percentile_99_5"]))
        return ConvolutionalEncoder, {"clip": clip, "mean": float(values["mean"]), "deviation": float(values["std"])}
    schemes: dict[str, tuple[type[ConvolutionalEncoder], dict[str, Any]]] = {
        "ZScoreNormalization": (ConvolutionalEncoder, {}),
        "NoNormalization": (ConvolutionalEncoder, {"mean": 0.0, "deviation": 1.0}),
        "RescaleTo01Normalization": (RangeEncoder, {}),
    }
    if model.normalization not in schemes:
        raise GdmError(
            "the nnU-Net model's normalisation is not known",
            file=model.file,
            found=model.normalization,
            expected=", ".join(["CTNormalization", *schemes]),
            remedy="use a model with one of these normalisations",
        )
    return schemes[model.normalization]
