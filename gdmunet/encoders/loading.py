"""From weights to encoders: find the files, check that they are the planned ones, and build the frozen module."""

from __future__ import annotations

from pathlib import Path

from gdmunet import commands
from gdmunet.consents import ConsentList, file_sha256, source_of
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.download import DownloadOptions, cached_file, download, expected_sha256
from gdmunet.encoders.registry import BUILT_IN, FAMILIES, Family, NamedEncoder, parse_spec
from gdmunet.encoders.weight_files import check_sha256, weights_sha256
from gdmunet.errors import COMMAND, GdmError
from gdmunet.plans import EncoderSpec


def load_encoder(
    spec: EncoderSpec, units: VolumeUnits, cache: Path, consents: ConsentList | None = None
) -> FrozenEncoder:
    """The encoder that was planned, frozen, in evaluation mode, on the CPU. Never downloads.

    Parameters
    ----------
    cache
        Folder of downloaded weights (`Folders.encoders`).
    consents
        Files that may run code: plans, which come from anywhere, can only name one. None: no file may.

    Raises
    ------
    GdmError
        The weights are missing or not those that were planned, or the plans name code that was not allowed.
    """
    consents = consents or ConsentList()
    named = parse_spec(spec.spec)
    if named.family is None:
        consents.require(source_of(named.module), f"the encoder {named.spec}")
    file = weight_file(named, cache, Path(spec.file) if spec.file else None)
    if file is None and named.family and named.family.source:
        raise missing_weights(named.family, cache)
    remedy = "plan again: features of other weights do not belong to this training"
    if file is not None:
        remedy = f"put the planned weights back, or {remedy}"
    pickle = pickle_of(named, file) if spec.trusted else None
    if pickle is not None:
        # Trust was given to these bytes alone: they are compared before anything in them can run.
        if pickle == file:
            check_sha256(file, file_sha256(file), spec.sha256, remedy)
        consents.require(pickle, f"the pickle of the encoder {named.spec}")
    encoder = build_encoder(named, file, units, spec.dimensions, pickle is not None)
    check_sha256(file or Path(named.spec), weights_hash(encoder, file), spec.sha256, remedy)
    if encoder.levels != spec.levels:
        raise GdmError(
            f"the encoder {spec.spec} does not have the levels of the plans",
            found=encoder.levels,
            expected=spec.levels,
            remedy="plan again",
        )
    return encoder


def pickle_of(named: NamedEncoder, file: Path | None) -> Path | None:
    """The file that is read as a pickle if it is trusted; None: nothing is."""
    if file is not None and file.is_dir() and named.family is not None and named.family.takes_model_folder:
        from gdmunet.encoders.nnunet import checkpoint_file  # brings the libraries of its networks

        return checkpoint_file(file)
    return file if file is not None and file.is_file() and file.suffix != ".safetensors" else None


def weight_file(named: NamedEncoder, cache: Path, given: Path | None) -> Path | None:
    """The weight file of an encoder: the user's file, the argument of its spec, or the cache.

    None: nothing is at hand, or the builder has its own place.
    """
    if given is not None:
        file = Path(given).resolve()
        if not file.exists():
            raise GdmError("the encoder's weights are missing", file=file, remedy="check --encoder-path")
        return file
    if named.family is None:
        return None
    if named.argument is not None:
        return Path(named.argument)
    return _cached_weights(named.family, cache)


def _cached_weights(family: Family, cache: Path) -> Path | None:
    """The downloaded file, which must have the hash that was pinned or recorded; a user's own file may be any."""
    file = cached_file(family.source, family_folder(family, cache)) if family.source else None
    if family.source and file and (wanted := expected_sha256(family.source, file)):
        command = commands.download_encoder(family.name)
        check_sha256(file, file_sha256(file), wanted, "delete the file, then run {command}", command)
    return file


def build_encoder(
    named: NamedEncoder, file: Path | None, units: VolumeUnits, dimensions: int, trust_checkpoint: bool = False
) -> FrozenEncoder:
    """Build an encoder, check that it fits the volumes, and freeze it."""
    if named.family is not None:
        _check_serves(named.family, units, dimensions)
    encoder = named.builder(file, units, dimensions, trust_checkpoint)
    if not isinstance(encoder, FrozenEncoder):
        raise GdmError(
            f"{named.spec} did not make an encoder",
            found=type(encoder).__name__,
            expected="a gdmunet FrozenEncoder",
            remedy="let the factory return an encoder that derives from FrozenEncoder",
        )
    if encoder.dimensions != dimensions or not encoder.levels:
        raise GdmError(
            f"the encoder {named.spec} does not fit",
            found=f"{encoder.dimensions}D with {len(encoder.levels)} levels",
            expected=f"{dimensions}D with at least one level",
            remedy="choose another encoder, or plan for its number of dimensions",
        )
    return encoder.freeze()


def _check_serves(family: Family, units: VolumeUnits, dimensions: int) -> None:
    if dimensions not in family.dimensions:
        raise GdmError(
            f"the encoder {family.name} has no {dimensions}D form",
            found=f"{dimensions}D",
            expected=" or ".join(f"{n}D" for n in family.dimensions),
            remedy="choose another encoder ({command} shows them), or a trainer without drift: FidelityTrainer",
            command=commands.list_encoders(),
        )
    if not family.serves(units.modality, dimensions):
        raise GdmError(
            f"the encoder {family.name} was not trained for this target",
            found=units.modality,
            expected=" or ".join(family.modalities),
            remedy=f"choose another encoder ({COMMAND} shows them), such as {BUILT_IN}",
            command=commands.list_encoders(),
        )


def weights_hash(encoder: FrozenEncoder, file: Path | None) -> str:
    """The sha256 that pins an encoder: of its weight file, else (folder, package, factory) of the weights."""
    return file_sha256(file) if file is not None and file.is_file() else weights_sha256(encoder)


def family_folder(family: Family, cache: Path) -> Path:
    """Folder of a family's downloads."""
    return Path(cache) / family.name


def missing_weights(family: Family, cache: Path) -> GdmError:
    """The error that tells how to get the weights of a family."""
    source, folder = family.source, family_folder(family, cache)
    return GdmError(
        f"the weights of the encoder {family.name} are not on this machine",
        file=folder / source.name if source else folder,
        remedy="with a network run {command}; without, fetch the file elsewhere and give it with --encoder-path FILE",
        command=commands.download_encoder(family.name),
    )


def fetch_weights(family: Family, cache: Path, options: DownloadOptions | None = None) -> Path:
    """Download the weights of a family into the cache, or check those that lie there.

    Raises
    ------
    GdmError
        There is nothing to download, or it fails.
    """
    if family.source is None:
        raise GdmError(
            f"the encoder {family.name} is not downloaded",
            found=family.summary,
            expected=", ".join(name for name, known in FAMILIES.items() if known.source),
            remedy=f"use it as -encoder {family.usage}",
        )
    return download(family.source, family_folder(family, cache), options)
