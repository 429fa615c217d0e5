"""Foreign weight files: read without running code from them, and put into a network only if all of them fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from gdmunet.checkpoint import tensors_sha256
from gdmunet.errors import CommandLine, GdmError
from gdmunet.foreign import check_zip, reading, reason
from gdmunet.plain_text import one_line

# Numbers of numpy: nnU-Net keeps its scores so. They hold values alone, under the names of numpy 1 and 2.
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN_NUMPY: list[Any] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")},
]
# Keys under which published checkpoints keep their weights.
_NESTS = ("state_dict", "network_weights", "model_state_dict", "model")


def read_weights(file: Path, trust_checkpoint: bool = False) -> dict[str, torch.Tensor]:
    """Tensors by name from a ``.safetensors`` file or a PyTorch checkpoint.

    Parameters
    ----------
    trust_checkpoint
        Whether a pickle is read that holds more than tensors and plain values: it may run any code while it is read.

    Raises
    ------
    GdmError
        Missing or damaged file, a pickle that needs trust, or no tensors in it.
    """
    file = Path(file)
    if not file.is_file():
        raise GdmError("the encoder's weight file is missing", file=file, remedy="check the path")
    with reading("the encoder's weight file cannot be read", file, remedy="copy or download it again"):
        plain = file.suffix == ".safetensors"
        content = load_file(str(file), device="cpu") if plain else _read_pickle(file, trust_checkpoint)
        tensors = _tensors(content)
    if not tensors:
        raise GdmError(
            "the file holds no weights",
            file=file,
            found=_describe(content),
            expected="named tensors",
            remedy="give a file of weights, such as .safetensors or .pt",
        )
    prefix = "module."  # left by DataParallel
    if all(name.startswith(prefix) for name in tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor], file: Path, prefix: str = "") -> None:
    """Copy the weights whose names start with `prefix` into `network`; every one of its tensors must be there.

    Further weights of the file (a decoder, a head) are ignored.
    """
    own = network.state_dict()
    missing = [name for name in own if prefix + name not in weights and not name.endswith("num_batches_tracked")]
    if missing:
        raise GdmError(
            f"the file lacks {len(missing)} of {len(own)} weights of this encoder",
            file=file,
            found=f"{sorted(weights)[:3]} ...",
            expected=f"{[prefix + name for name in missing[:3]]} ...",
            remedy="check that the file belongs to the encoder that was asked for",
        )
    for name, tensor in own.items():
        given = weights.get(prefix + name, tensor)
        if given.shape != tensor.shape:
            raise GdmError(
                f"the weight {prefix + name} does not have the shape that this encoder needs",
                file=file,
                found=tuple(given.shape),
                expected=tuple(tensor.shape),
                remedy="check that the file belongs to the encoder that was asked for",
            )
    network.load_state_dict({name: weights.get(prefix + name, tensor) for name, tensor in own.items()})


def check_forms(stored: Any, network: nn.Module) -> None:
    """The names and shapes of an open safetensors file are those of `network`, before a weight is read.

    Raises
    ------
    GdmError
        Missing, surplus or other tensors.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118 - no dict
    if given != own:
        wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise GdmError(
            "the weights are not those of the network described with them",
            found=f"{len(wrong)} differ, first {one_line(wrong[0], 80)}: {given.get(wrong[0])}",
            expected=own.get(wrong[0]),
            remedy="copy the file again, or pretrain the encoder anew",
        )


def channels_of(weights: Mapping[str, torch.Tensor], name: str, file: Path) -> int:
    """Output channels of the convolution `name`, by which an encoder's width is known."""
    if name not in weights:
        raise GdmError(
            "the file does not hold this encoder",
            file=file,
            found=f"{sorted(weights)[:3]} ...",
            expected=name,
            remedy="check that the file belongs to the encoder that was asked for",
        )
    return int(weights[name].shape[0])


def check_sha256(file: Path, found: str, expected: str, remedy: str, command: CommandLine | None = None) -> None:
    """Refuse a file whose hash is not the expected one."""
    if found != expected:
        raise GdmError(
            "the weights are not the expected ones",
            file=file,
            found=found,
            expected=expected,
            remedy=remedy,
            command=command,
        )


def weights_sha256(network: nn.Module) -> str:
    """sha256 of all tensors: the identity of weights that come from no file."""
    return tensors_sha256(network.state_dict())


def _read_pickle(file: Path, trust_checkpoint: bool) -> Any:
    try:
        check_zip(file)
        with torch.serialization.safe_globals(_PLAIN_NUMPY):
            return torch.load(file, map_location="cpu", weights_only=not trust_checkpoint)
    except pickle.UnpicklingError as error:
        if trust_checkpoint:
            raise
        raise GdmError(
            "the file is a pickle that holds more than weights; reading it can run any code",
            file=file,
            found=reason(error),
            remedy="give --trust-checkpoint if you trust its source, or convert it to .safetensors",
        ) from error


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    if isinstance(content, nn.Module):
        return dict(content.state_dict())
    if not isinstance(content, Mapping):
        return {}
    for nest in _NESTS:
        if isinstance(content.get(nest), Mapping | nn.Module):
            return _tensors(content[nest])
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _describe(content: Any) -> str:
    return (
        f"{type(content).__name__} with {sorted(map(str, content))[:5]}"
        if isinstance(content, Mapping)
        else str(type(content))
    )
