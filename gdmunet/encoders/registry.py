"""Every frozen encoder by name, where its weights come from, and how it is loaded.

Families share one builder: ``build(file, units, dimensions, trust_checkpoint) -> FrozenEncoder``, also those that a
user names as ``package.module:factory`` or ``file.py:factory``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from gdmunet import commands
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.download import HUB, HubFile, cached_file, check_sha256, download, expected_sha256, file_sha256
from gdmunet.encoders.factories import Builder, own_factory
from gdmunet.encoders.weight_files import weights_sha256
from gdmunet.errors import GdmError
from gdmunet.hounsfield import HU_MODALITIES, canonical_modality
from gdmunet.plans import EncoderSpec

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


@dataclass(frozen=True)
class Family:
    """One row of the table of encoders.

    Attributes
    ----------
    name
        First word of a spec.
    what
        In a few words.
    builder
        ``module:function`` inside this package; imported when it is needed.
    modalities
        Targets it was trained for, upper case; empty: any.
    dimensions
        2, 3 or both.
    licence
        Of the weights.
    argument
        What follows ``name:`` in a spec, or None where nothing does.
    source
        Where the weights are downloaded from, or None.
    """

    name: str
    what: str
    builder: str
    modalities: tuple[str, ...]
    dimensions: tuple[int, ...]
    licence: str
    argument: str | None = None
    source: HubFile | None = None


_ANY: tuple[str, ...] = ()
_OURS = "Apache-2.0"
_TABLE = (
    Family("mini", "small, pretrained, inside the package", "mini:build_mini", _ANY, (2, 3), _OURS),
    Family("medvae-4x-3d", "MedVAE, 3 levels", "medvae:build_4x", _ANY, (3,), "MIT", source=_MEDVAE_4X),
    Family("medvae-8x-3d", "MedVAE, 4 levels", "medvae:build_8x", _ANY, (3,), "MIT", source=_MEDVAE_8X),
    Family("ct-fm", "CT-FM, 5 levels", "ct_fm:build", HU_MODALITIES, (3,), "Apache-2.0", source=_CT_FM),
    Family("medicalnet-10", "MedicalNet ResNet-10", "medicalnet:build_10", _ANY, (3,), "MIT", source=_MEDICALNET_10),
    Family("medicalnet-50", "MedicalNet ResNet-50", "medicalnet:build_50", _ANY, (3,), "MIT", source=_MEDICALNET_50),
    Family("nnunet", "encoder of an nnU-Net v2 model", "nnunet:build", _ANY, (2, 3), "the model's", "MODEL_FOLDER"),
    Family("nnssl", "ResEnc-L, self-supervised", "nnssl:build", _ANY, (3,), "CC BY 4.0", "FILE"),
    Family("mae", "pretrained on your own volumes", "mini:build_mae", _ANY, (2, 3), "yours", "RUN_FOLDER"),
    Family("tiny", "small, random: for trials of the plumbing alone", "mini:build_tiny", _ANY, (2, 3), _OURS),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _TABLE}


@dataclass(frozen=True)
class EncoderRequest:
    """A parsed spec.

    Attributes
    ----------
    family
        Row of the table, or None for a factory of the user.
    argument
        What follows the colon, as an absolute path where it is one.
    """

    family: Family | None
    argument: str | None

    @property
    def spec(self) -> str:
        """The spec with absolute paths, as plans keep it."""
        if self.family is None:
            return str(self.argument)
        return self.family.name if self.argument is None else f"{self.family.name}:{self.argument}"


def parse_spec(spec: str) -> EncoderRequest:
    """Split and check a spec such as ``mini``, ``nnunet:FOLDER`` or ``file.py:factory``.

    Raises
    ------
    GdmError
        An unknown name, or a missing or surplus argument.
    """
    name, colon, argument = spec.partition(":")
    family = FAMILIES.get(name)
    if family is None:
        return EncoderRequest(None, _factory_argument(spec))
    if family.argument is None and colon:
        raise GdmError(f"the encoder {name} takes no argument", found=spec, expected=name)
    if family.argument is not None and not argument:
        raise GdmError(f"the encoder {name} needs its weights", found=spec, expected=f"{name}:{family.argument}")
    return EncoderRequest(family, str(Path(argument).resolve()) if argument else None)


def load_encoder(
    spec: EncoderSpec, units: VolumeUnits, cache: Path, *, trust_checkpoint: bool = False
) -> FrozenEncoder:
    """The encoder that was planned, frozen, in evaluation mode, on the CPU. Never downloads.

    Parameters
    ----------
    cache
        Folder of downloaded weights (`Folders.encoders`).

    Raises
    ------
    GdmError
        The weights are missing or not those that were planned.
    """
    request = parse_spec(spec.spec)
    file = weight_file(request, cache, Path(spec.file) if spec.file else None)
    if file is None and request.family and request.family.source:
        raise missing_weights(request.family, cache)
    remedy = "plan again: features of other weights do not belong to this training"
    if file is not None:
        remedy = f"put the planned weights back, or {remedy}"
    if spec.trusted and file is not None and file.is_file():
        # Trust was given to these bytes alone: they are compared before anything in them can run.
        check_sha256(file, file_sha256(file), spec.sha256, remedy)
    encoder = build_encoder(request, file, units, spec.dimensions, trust_checkpoint or spec.trusted)
    check_sha256(file or Path(request.spec), weights_hash(encoder, file), spec.sha256, remedy)
    if encoder.levels != spec.levels:
        raise GdmError(
            f"the encoder {spec.spec} has other levels than the plans say",
            found=encoder.levels,
            expected=spec.levels,
            remedy="plan again",
        )
    return encoder


def weight_file(request: EncoderRequest, cache: Path, given: Path | None) -> Path | None:
    """Where the weights of a request lie: the user's file, the argument, the cache; None: the builder's own place."""
    if given is not None:
        file = Path(given).resolve()
        if not file.exists():
            raise GdmError("the encoder's weights are missing", file=file, remedy="check --encoder-path")
        return file
    if request.family is None:
        return None
    if request.argument is not None:
        return Path(request.argument)
    return _cached_weights(request.family, cache)


def _cached_weights(family: Family, cache: Path) -> Path | None:
    """The downloaded file, which must have the hash that was pinned or recorded; a user's own file may be any."""
    file = cached_file(family.source, family_folder(family, cache)) if family.source else None
    if family.source and file and (wanted := expected_sha256(family.source, file)):
        command = commands.download_encoder(family.name)
        check_sha256(file, file_sha256(file), wanted, "delete the file, then run {command}", command)
    return file


def build_encoder(
    request: EncoderRequest, file: Path | None, units: VolumeUnits, dimensions: int, trust_checkpoint: bool = False
) -> FrozenEncoder:
    """Build, check that it fits the volumes, and freeze."""
    family = request.family
    if family and dimensions not in family.dimensions:
        raise GdmError(
            f"the encoder {family.name} has no {dimensions}D form",
            found=f"{dimensions}D",
            expected=" or ".join(f"{n}D" for n in family.dimensions),
            remedy="choose another encoder ({command} shows them), or a trainer without drift: FidelityTrainer",
            command=commands.list_encoders(),
        )
    if family and family.modalities and canonical_modality(units.modality) not in family.modalities:
        raise GdmError(
            f"the encoder {family.name} was not trained for this target",
            found=units.modality,
            expected=" or ".join(family.modalities),
            remedy="choose another encoder ({command} shows them), such as mini",
            command=commands.list_encoders(),
        )
    builder = _find_builder(request)
    encoder = builder(file, units, dimensions, trust_checkpoint)
    if not isinstance(encoder, FrozenEncoder):
        raise GdmError(
            f"{request.spec} made no encoder", found=type(encoder).__name__, expected="a gdmunet FrozenEncoder"
        )
    if encoder.dimensions != dimensions or not encoder.levels:
        raise GdmError(
            f"the encoder {request.spec} does not fit",
            found=f"{encoder.dimensions}D with {len(encoder.levels)} levels",
            expected=f"{dimensions}D with at least one level",
        )
    return encoder.freeze()


def weights_hash(encoder: FrozenEncoder, file: Path | None) -> str:
    """The sha256 that pins an encoder: of its weight file, else (folder, package, factory) of the weights."""
    return file_sha256(file) if file is not None and file.is_file() else weights_sha256(encoder)


def family_folder(family: Family, cache: Path) -> Path:
    """Where downloads of a family lie."""
    return Path(cache) / family.name


def missing_weights(family: Family, cache: Path) -> GdmError:
    """The error that tells how to get the weights of a family."""
    source, folder = family.source, family_folder(family, cache)
    return GdmError(
        f"the weights of the encoder {family.name} are not on this machine",
        file=folder / source.name if source else folder,
        remedy="with network run {command}; without, fetch the file elsewhere and give it with --encoder-path FILE",
        command=commands.download_encoder(family.name),
    )


def fetch_weights(family: Family, cache: Path, *, show_progress: bool = True, hub: str = HUB) -> Path:
    """Download the weights of a family into the cache, or check those that lie there.

    Raises
    ------
    GdmError
        There is nothing to download, or it fails.
    """
    if family.source is None:
        raise GdmError(
            f"the encoder {family.name} is not downloaded",
            found=family.what,
            expected=", ".join(name for name, known in FAMILIES.items() if known.source),
            remedy=f"use it as -encoder {_usage(family)}",
        )
    return download(family.source, family_folder(family, cache), show_progress=show_progress, hub=hub)


def _find_builder(request: EncoderRequest) -> Builder:
    if request.family is not None:
        module, _, function = request.family.builder.partition(":")
        return getattr(importlib.import_module(f"gdmunet.encoders.{module}"), function)
    return own_factory(str(request.argument))


def _factory_argument(spec: str) -> str:
    place, colon, factory = spec.rpartition(":")
    if not (colon and place and factory.isidentifier()):
        raise GdmError(
            f"there is no encoder {spec}",
            expected=", ".join([*map(_usage, FAMILIES.values()), "package.module:factory", "file.py:factory"]),
        )
    return f"{Path(place).resolve()}:{factory}" if place.endswith(".py") else spec


def _usage(family: Family) -> str:
    return family.name if family.argument is None else f"{family.name}:{family.argument}"
