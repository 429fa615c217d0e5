"""Weights that rebuild their network by themselves: one .safetensors file with the network's numbers in its header.

Such a file holds no code and no pickle, so a foreign one can be opened safely. The state that only resuming a
training needs (optimiser, random states) lies elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gdmunet.atomic import atomic_path
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.formats import FileFormat
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import Generator, build_network
from gdmunet.plain_text import one_line
from gdmunet.provenance import UNKNOWN, ProvenanceSpec
from gdmunet.ranges import within
from gdmunet.sampler_spec import ONE_STEP, SamplerSpec
from gdmunet.serialization import parse_as, to_json
from gdmunet.version import __version__

_HEADER_KEY = "gdmunet"
_DIGEST_KEY = "sha256"  # beside the description, in one file: they are replaced at once
_FOREIGN = "the file is not a checkpoint of gdmunet, or it is damaged"
# Numbers of safetensors that a floating-point weight, or a counter, may be stored as.
_KINDS = {True: ("F64", "F32", "F16", "BF16"), False: ("I64", "I32")}
_COPY_AGAIN = "copy it again, or choose another checkpoint (-chk)"
_OTHER_CHECKPOINT = "use a checkpoint of a trained model"


def upgrade_1_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knows networks with a dial for realism; those of version 1 have none."""
    added = {"network": {"dial_channels": None}, "metadata": {"realism": None}}
    return content | {key: content[key] | new for key, new in added.items() if isinstance(content.get(key), dict)}


def upgrade_2_to_3(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 says by hashes what the weights were made from; of earlier ones that is not known."""
    metadata = content.get("metadata")
    return content | {"metadata": metadata | {"provenance": {}}} if isinstance(metadata, dict) else content


CHECKPOINT_FORMAT = FileFormat("checkpoint", (upgrade_1_to_2, upgrade_2_to_3), key="format")


@dataclass(frozen=True)
class CheckpointMetadata:
    """The origin of weights.

    Attributes
    ----------
    trainer, plans, configuration, fold
        The run, as its results folder spells it; fold is ``"0"``, ``"1"``, ... or ``"all"``.
    epoch, iteration
        Finished epochs and optimiser steps.
    settings
        The trainer's settings (plain JSON values).
    validation_mae
        Mean absolute error on the validation patches in the target's unit, or None if it was not measured.
    sampler
        Way in which a prediction is drawn: in one pass of the network, or in several.
    realism
        Place of the dial, 0 to 1, that validation chose; None: the network has no dial, or was not validated.
    provenance
        Hashes of the plans, split, settings and trainer that the weights were made with.
    """

    trainer: str
    plans: str
    configuration: str
    fold: str
    epoch: int
    iteration: int
    settings: dict[str, Any] = field(default_factory=dict)
    validation_mae: float | None = None
    gdmunet_version: str = __version__
    sampler: SamplerSpec = ONE_STEP
    realism: float | None = None
    provenance: ProvenanceSpec = UNKNOWN

    def __post_init__(self) -> None:
        within("the finished epochs and steps", (self.epoch, self.iteration), 0, 1e12)
        within("the place of the dial", self.realism, 0, 1)


@dataclass(frozen=True)
class Checkpoint:
    """Weights (CPU tensors by parameter name), their network, and their origin; `sha256` is that of all three."""

    state_dict: dict[str, torch.Tensor]
    network: NetworkSpec
    metadata: CheckpointMetadata
    sha256: str = ""


@dataclass(frozen=True)
class _CheckpointHeader:
    network: NetworkSpec
    metadata: CheckpointMetadata
    format: int = CHECKPOINT_FORMAT.version


def save_weights(
    path: Path, state_dict: dict[str, torch.Tensor], network: NetworkSpec, metadata: CheckpointMetadata
) -> None:
    """Write weights atomically; an earlier file stays whole if this fails.

    Parameters
    ----------
    state_dict
        Weights of ``build_network(network)``. A tensor that the network reaches by several names is stored once; the
        names of ``named_parameters()`` alone, without such repetitions, are enough.

    Raises
    ------
    GdmError
        The weights are not those of `network`, or the disk is full.
    """
    owners = _owners_of(_blank_state(network))
    _check_names(set(state_dict), owners, Path(path))
    # A clone where tensors share memory: safetensors refuses shared storage, and views of one flat buffer are shared.
    tensors = {name: _detached(state_dict[name]) for name in dict.fromkeys(owners.values())}
    header = json.dumps(to_json(_CheckpointHeader(network, metadata)))
    described = {_HEADER_KEY: header, _DIGEST_KEY: tensors_sha256(tensors, header)}
    with atomic_path(Path(path), SafetensorError) as temporary:
        save_file(tensors, str(temporary), metadata=described)


def load_weights(path: Path) -> Checkpoint:
    """Read a checkpoint written by `save_weights`.

    Raises
    ------
    GdmError
        Missing, truncated or foreign file, a newer format, or weights that do not fit their own network.
    """
    path = Path(path)
    with _opened(path) as (file, described):
        header = _parse_header(described[_HEADER_KEY], path)
        blank = _blank_state(header.network)
        owners = _owners_of(blank)
        _check_names(set(file.keys()), owners, path)
        # Before a byte of a weight is read: the file may be larger than the network that it describes.
        for name in owners.values():
            _check_form(name, file.get_slice(name), blank[name], path)
        stored = {name: file.get_tensor(name) for name in dict.fromkeys(owners.values())}
    digest = tensors_sha256(stored, described[_HEADER_KEY])
    if described.get(_DIGEST_KEY, digest) != digest:
        raise GdmError(
            "the weights have changed since they were written",
            file=path,
            found=f"sha256 {digest}",
            expected=one_line(described[_DIGEST_KEY], 80),
            remedy=_COPY_AGAIN,
        )
    _check_finite(stored, path)
    return Checkpoint({name: stored[owner] for name, owner in owners.items()}, header.network, header.metadata, digest)


def described_bytes(described: dict[str, str]) -> int:
    """Most bytes of the weights of the network that a header describes, from the header's texts by their keys.

    Raises
    ------
    GdmError
        It describes none.
    """
    if _HEADER_KEY not in described:
        raise GdmError(_FOREIGN, found="safetensors without gdmunet's description of the network", remedy=_COPY_AGAIN)
    network = parse_as(_CheckpointHeader, described[_HEADER_KEY], "checkpoint", CHECKPOINT_FORMAT).network
    # Twice: float64 is the widest form that a weight may have.
    tensors = {id(tensor): tensor for tensor in _blank_state(network).values()}
    return 2 * sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def tensors_sha256(tensors: dict[str, torch.Tensor], description: str = "") -> str:
    """sha256 over a description and the names, shapes and values of tensors, whatever their order in a file."""
    digest = hashlib.sha256(description.encode())
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().to("cpu").contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_metadata(path: Path) -> CheckpointMetadata:
    """The origin of the weights in a checkpoint; the weights are not read.

    Raises
    ------
    GdmError
        Missing, truncated or foreign file, or a newer format.
    """
    with _opened(Path(path)) as (_, described):
        return _parse_header(described[_HEADER_KEY], Path(path)).metadata


def load_network(checkpoint: Checkpoint) -> Generator:
    """The generator of a checkpoint with its weights, in evaluation mode, on the CPU."""
    network = build_network(checkpoint.network)
    network.load_state_dict(checkpoint.state_dict)
    return network.eval()


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().to("cpu").contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


def _blank_state(spec: NetworkSpec) -> dict[str, torch.Tensor]:
    """Names and shapes of the weights of `spec` without memory for them."""
    with torch.device("meta"):
        return dict(build_network(spec).state_dict(keep_vars=True))


def _owners_of(blank: dict[str, torch.Tensor]) -> dict[str, str]:
    """Every weight's name to the first name of the same tensor: a U-Net's decoder also holds its encoder."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in blank.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """A checkpoint's file, and the texts of its header."""
    if not path.is_file():
        raise GdmError("the checkpoint is missing", file=path, remedy="train the fold, or choose another checkpoint")
    with (
        reading(_FOREIGN, path, expected="a .safetensors file that gdm_train wrote", remedy=_COPY_AGAIN),
        safe_open(str(path), framework="pt", device="cpu") as file,
    ):
        described = file.metadata() or {}
        if _HEADER_KEY not in described:
            raise GdmError(_FOREIGN, found="safetensors without gdmunet's description of the network")
        yield file, described


def _parse_header(text: str, path: Path) -> _CheckpointHeader:
    try:
        return parse_as(_CheckpointHeader, text, "checkpoint", CHECKPOINT_FORMAT)
    except GdmError as error:
        error.located(file=path, remedy=_OTHER_CHECKPOINT)
        raise


def _check_names(names: set[str], owners: dict[str, str], path: Path) -> None:
    missing, surplus = sorted(set(owners.values()) - names), sorted(names - set(owners))
    if missing or surplus:
        raise GdmError(
            "the weights are not those of the network described with them",
            file=path,
            found=f"{len(missing)} missing {missing[:2]}, {len(surplus)} unknown {surplus[:2]}",
            expected=f"{len(set(owners.values()))} tensors",
            remedy="a network must be built from its NetworkSpec alone; train again, or use another checkpoint",
        )


def _check_form(name: str, stored: Any, blank: torch.Tensor, path: Path) -> None:
    """Shape and kind of number of a stored tensor are those of the network: nothing is broadcast or rounded."""
    kind = str(stored.get_dtype())
    if tuple(stored.get_shape()) != tuple(blank.shape) or kind not in _KINDS[blank.is_floating_point()]:
        raise GdmError(
            f"the weight {name} does not have the form that its network needs",
            file=path,
            found=f"{tuple(stored.get_shape())} {kind}",
            expected=f"{tuple(blank.shape)} {blank.dtype}",
            remedy=_OTHER_CHECKPOINT,
        )


def _check_finite(stored: dict[str, torch.Tensor], path: Path) -> None:
    wrong = [name for name, tensor in stored.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        raise GdmError(
            "the checkpoint holds weights that are not numbers",
            file=path,
            found=f"{len(wrong)} of {len(stored)} tensors, first {wrong[0]}",
            expected="finite weights",
            remedy=_OTHER_CHECKPOINT,
        )
