"""The table of frozen encoders: each one's name, source of weights, and builder.

To add an encoder, write its builder in a file of this folder and add one row to the table below: nothing else names it.
All builders have one form, ``build(file, units, dimensions, trust_checkpoint) -> FrozenEncoder``, also those that a
user names as ``package.module:factory`` or ``file.py:factory``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.download import HubFile
from gdmunet.encoders.factories import Builder, own_factory
from gdmunet.errors import GdmError
from gdmunet.hounsfield import HU_MODALITIES, canonical_modality

_MEDVAE = "041f23d40d9890a3ee0cc1ee56e750e4b81acbe0"
_MEDVAE_4X = HubFile("stanfordmimi/MedVAE", "model_weights/vae_4x_1c_3D.ckpt", _MEDVAE, 644)
_MEDVAE_8X = HubFile("stanfordmimi/MedVAE", "model_weights/vae_8x_1c_3D.ckpt", _MEDVAE, 984)
_CT_FM = HubFile(
    "project-lighter/ct_fm_feature_extractor", "model.safetensors", "23e05e9c3398ed305339d144e3642bbcf9ccc46f", 311
)
_MEDICALNET_10 = HubFile(
    "TencentMedicalNet/MedicalNet-Resnet10",
    "resnet_10_23dataset.pth",
    "2a0c8cd91b82beb69610b60cb76d9eb8cbf9eac7",
    57,
    "afa8055f3e47f4a18239495d92a7abc587902c69c31c743de2b2784653b72605",
)
_MEDICALNET_50 = HubFile(
    "MONAI/checkpoints",
    "medicalnet/resnet_50_23dataset.pth",
    "d75b7244bed73a4366c776023ce586123392bb92",
    185,
    "ff48a62219073fb977fd3f4ddfb8dc1367f0ec156c8d6f6c37e205bd683a246e",
)


_MODEL_FOLDER = "MODEL_FOLDER"


@dataclass(frozen=True)
class Family:
    """One row of the table of encoders.

    Attributes
    ----------
    name
        First word of a spec.
    summary
        A few words on the encoder.
    builder
        ``module:function`` inside this package; imported when it is needed.
    modalities
        Targets that the encoder was trained for, as `canonical_modality` writes them; empty: any.
    dimensions
        2, 3 or both.
    licence
        Licence of the weights.
    argument
        Word for the part behind ``name:`` in a spec; None if nothing follows the name.
    source
        Source of the weights' download, or None.
    rank
        Place in the order in which `auto` looks for weights, 1 first; None: `auto` does not take it.
    outline
        ``module:function`` that gives the encoder of some units with the published sizes and no weights, by which
        `auto` knows its operations before it is downloaded; every ranked one has it.
    """

    name: str
    summary: str
    builder: str
    modalities: tuple[str, ...]
    dimensions: tuple[int, ...]
    licence: str
    argument: str | None = None
    source: HubFile | None = None
    rank: int | None = None
    outline: str | None = None

    @property
    def usage(self) -> str:
        """The name of the encoder on the command line."""
        return self.name if self.argument is None else f"{self.name}:{self.argument}"

    @property
    def takes_model_folder(self) -> bool:
        """Whether a model folder of nnU-Net follows the name, in which a checkpoint holds the weights."""
        return self.argument == _MODEL_FOLDER

    def serves(self, modality: str, dimensions: int) -> bool:
        """Whether the encoder was made for targets of `modality` in 2 or 3 dimensions."""
        trained = not self.modalities or canonical_modality(modality) in self.modalities
        return trained and dimensions in self.dimensions

    def outlined(self, units: VolumeUnits) -> FrozenEncoder:
        """The encoder without data, on the device ``meta``.

        Raises
        ------
        ValueError
            The row has no outline.
        """
        if self.outline is None:
            raise ValueError(f"{self.name} has no outline")
        with torch.device("meta"):
            encoder: FrozenEncoder = _function(self.outline)(units)
        return encoder.freeze()


# What `auto` takes where no other is at hand; it did better than `mini` (documentation/reference/encoders.md).
BUILT_IN = "mini-random"
# The one with levels of a decoder.
SEGMENTER = "segmenter"
_ANY: tuple[str, ...] = ()
_OURS = "Apache-2.0"
_TABLE = (
    Family("mini", "small, pretrained, inside the package", "mini:build_mini", _ANY, (2, 3), _OURS),
    Family(BUILT_IN, "its network, filters random", "mini:build_random_filters", _ANY, (2, 3), _OURS),
    Family("mini-1", "its first version, without stride 1", "mini:build_first_mini", _ANY, (2, 3), _OURS),
    Family(
        "medvae-4x-3d",
        "MedVAE, 3 levels",
        "medvae:build_4x",
        _ANY,
        (3,),
        "MIT",
        source=_MEDVAE_4X,
        rank=1,
        outline="medvae:outline_4x",
    ),
    Family(
        "medvae-8x-3d",
        "MedVAE, 4 levels",
        "medvae:build_8x",
        _ANY,
        (3,),
        "MIT",
        source=_MEDVAE_8X,
        rank=2,
        outline="medvae:outline_8x",
    ),
    Family(
        "ct-fm",
        "CT-FM, 5 levels",
        "ct_fm:build",
        HU_MODALITIES,
        (3,),
        "Apache-2.0",
        source=_CT_FM,
        rank=3,
        outline="ct_fm:outline",
    ),
    Family(
        "medicalnet-10",
        "MedicalNet ResNet-10",
        "medicalnet:build_10",
        _ANY,
        (3,),
        "MIT",
        source=_MEDICALNET_10,
        rank=5,
        outline="medicalnet:outline_10",
    ),
    Family(
        "medicalnet-50",
        "MedicalNet ResNet-50",
        "medicalnet:build_50",
        _ANY,
        (3,),
        "MIT",
        source=_MEDICALNET_50,
        rank=4,
        outline="medicalnet:outline_50",
    ),
    Family("nnunet", "encoder of an nnU-Net v2 model", "nnunet:build", _ANY, (2, 3), "the model's", _MODEL_FOLDER),
    Family(
        SEGMENTER,
        "encoder and decoder of an nnU-Net v2 model",
        "nnunet:build_segmenter",
        _ANY,
        (2, 3),
        "the model's",
        _MODEL_FOLDER,
    ),
    Family("nnssl", "ResEnc-L, self-supervised", "nnssl:build", _ANY, (3,), "CC BY 4.0", "FILE"),
    Family("mae", "pretrained on your own volumes", "mini:build_mae", _ANY, (2, 3), "yours", "RUN_FOLDER"),
    Family("tiny", "small, random: for trials of the plumbing alone", "mini:build_tiny", _ANY, (2, 3), _OURS),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _TABLE}


def ranked_families(modality: str, dimensions: int) -> tuple[Family, ...]:
    """The encoders that `auto` looks for, best first; the built-in one is not among them."""
    fitting = [
        family for family in FAMILIES.values() if family.rank is not None and family.serves(modality, dimensions)
    ]
    return tuple(sorted(fitting, key=lambda family: family.rank or 0))


@dataclass(frozen=True)
class NamedEncoder:
    """A parsed spec.

    Attributes
    ----------
    family
        Row of the table, or None for a factory of the user.
    argument
        The part behind the colon, as an absolute path where it is one.
    """

    family: Family | None
    argument: str | None

    @property
    def spec(self) -> str:
        """The spec with absolute paths, as plans keep it."""
        if self.family is None:
            return str(self.argument)
        return self.family.name if self.argument is None else f"{self.family.name}:{self.argument}"

    @property
    def module(self) -> str:
        """File or module of a factory of the user."""
        return str(self.argument).rpartition(":")[0]

    @property
    def builder(self) -> Builder:
        """The function that builds the encoder; imports its module."""
        if self.family is None:
            return own_factory(str(self.argument))
        builder: Builder = _function(self.family.builder)
        return builder


def _function(place: str) -> Any:
    """A function of this package as ``module:function``."""
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(f"gdmunet.encoders.{module}"), function)


def parse_spec(spec: str) -> NamedEncoder:
    """Split and check a spec such as ``mini``, ``nnunet:FOLDER`` or ``file.py:factory``.

    Raises
    ------
    GdmError
        An unknown name, or a missing or surplus argument.
    """
    name, colon, argument = spec.partition(":")
    family = FAMILIES.get(name)
    if family is None:
        return NamedEncoder(None, _factory_argument(spec))
    if family.argument is None and colon:
        raise GdmError(
            f"the encoder {name} takes no argument", found=spec, expected=name, remedy="name it without an argument"
        )
    if family.argument is not None and not argument:
        raise GdmError(
            f"the encoder {name} needs its weights",
            found=spec,
            expected=family.usage,
            remedy="add what its usage shows",
        )
    return NamedEncoder(family, str(Path(argument).resolve()) if argument else None)


def _factory_argument(spec: str) -> str:
    place, colon, factory = spec.rpartition(":")
    if not (colon and place and factory.isidentifier()):
        known = [family.usage for family in FAMILIES.values()]
        raise GdmError(
            f"there is no encoder {spec}",
            expected=", ".join([*known, "package.module:factory", "file.py:factory"]),
            remedy="choose one of these",
        )
    return f"{Path(place).resolve()}:{factory}" if place.endswith(".py") else spec
