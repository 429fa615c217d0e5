"""A trained network for programs without gdmunet: ONNX, PyTorch's exported program or a MONAI bundle, and a JSON.

The file of the network takes windows and gives windows, in network units. ``network.json`` says what to do before
and after: channels, normalisation, geometry, size and step of the windows, air.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from gdmunet.atomic import atomic_folder
from gdmunet.consents import file_sha256
from gdmunet.errors import GdmError
from gdmunet.formats import FileFormat
from gdmunet.inference.monai_bundle import bundle_metadata, write_bundle, write_torchscript
from gdmunet.inference.trained_models import LoadedModel, load_model
from gdmunet.networks import Generator
from gdmunet.plans import NormalizationSpec
from gdmunet.results import CheckpointName
from gdmunet.sampler_spec import ONE_STEP
from gdmunet.serialization import save_json
from gdmunet.version import __version__

NetworkFormat = Literal["onnx", "torch_export", "monai"]
NETWORK_FORMAT = FileFormat("exported network")
DESCRIPTION_FILE = "network.json"
NETWORK_FILES: dict[NetworkFormat, str] = {
    "onnx": "network.onnx",
    "torch_export": "network.pt2",
    "monai": "models/model.ts",
}


@dataclass(frozen=True)
class ExportedNetworkSpec:
    """The content of network.json.

    Attributes
    ----------
    file, sha256
        File of the network beside it, and its hash. Input ``condition`` (batch, channels, *window), output
        ``prediction`` (batch, 1, *window), float32 in network units; the batch may have any size.
    channels, target
        Modalities in their order; CT and CBCT are in HU.
    transpose
        Order of the axes that the network works in, of an array whose axes point to superior, posterior, left.
    spacing
        Voxel size in mm in that order; 2D: of the two axes in the plane.
    window_size, step_size
        Voxels of a window, and the step between windows as a share of it.
    condition_normalization, target_normalization
        Maps from raw units to network units; the target's is inverted behind the network.
    background
        Value outside the body, in the target's unit.
    order
        Order of the spline that resamples the condition.
    realism
        Place of the dial that the network was exported at; None: it has none.
    """

    file: str
    sha256: str
    model: str
    folds: tuple[str, ...]
    checkpoint: str
    channels: tuple[str, ...]
    target: str
    transpose: tuple[int, int, int]
    spacing: tuple[float, ...]
    window_size: tuple[int, ...]
    step_size: float
    condition_normalization: tuple[NormalizationSpec, ...]
    target_normalization: NormalizationSpec
    background: float
    order: int
    realism: float | None = None
    gdmunet_version: str = __version__
    version: int = NETWORK_FORMAT.version


class FoldMean(nn.Module):
    """The mean of the folds' networks at one place of their dial, (B, C, ...) -> (B, 1, ...), all in float32."""

    def __init__(self, networks: Sequence[Generator], realism: float | None) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)
        self.realism = realism or 0.0
        for module in self.modules():
            # The output layer widens half precision by a function of its own, which no other program knows.
            vars(module).pop("forward", None)

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        """Predict a batch of windows."""
        total = self.members[0](condition, self.realism)
        for member in list(self.members)[1:]:
            total = total + member(condition, self.realism)
        result: torch.Tensor = total / len(self.members)
        return result


def export_network(
    model_folder: Path,
    output: Path,
    kind: NetworkFormat,
    folds: Sequence[str | int] | str | None = None,
    checkpoint: CheckpointName = "best",
) -> Path:
    """Write the mean of a model's folds and its description into a folder, which appears whole or not at all.

    Raises
    ------
    GdmError
        The model cannot be loaded or predicts in several steps, a package is missing, or the folder is not empty.
    """
    folder, output = Path(model_folder).resolve(), Path(output)
    model = load_model(folder, folds, checkpoint)
    if model.sampler != ONE_STEP:
        raise GdmError(
            "a model that predicts in several steps is more than one network",
            file=folder,
            expected="a model of one pass",
            remedy="share it with --format zip",
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise GdmError("the folder of the network is not empty", file=output, remedy="give another folder with -o")
    network = FoldMean(model.networks, model.realism).eval()
    with atomic_folder(output, replace=True) as building:
        file, example = building / NETWORK_FILES[kind], _example(model)
        if kind == "monai":
            metadata = _metadata(model, folder)
            write_torchscript(network, example, file, metadata)
        else:
            (_write_onnx if kind == "onnx" else _write_program)(network, example, file)
        described = _described(model, folder, NETWORK_FILES[kind], file_sha256(file), checkpoint)
        save_json(described, building / DESCRIPTION_FILE)
        if kind == "monai":
            write_bundle(building, described, metadata)
    return output


def _metadata(model: LoadedModel, folder: Path) -> dict[str, Any]:
    dataset = model.plans.dataset
    window = model.plans.configuration(model.configuration).patch_size
    return bundle_metadata(tuple(dataset.channels), dataset.target_name, window, f"{folder.parent.name}/{folder.name}")


def _described(
    model: LoadedModel, folder: Path, file: str, sha256: str, checkpoint: CheckpointName
) -> ExportedNetworkSpec:
    plans, configuration = model.plans, model.plans.configuration(model.configuration)
    return ExportedNetworkSpec(
        file=file,
        sha256=sha256,
        model=f"{folder.parent.name}/{folder.name}",
        folds=model.folds,
        checkpoint=checkpoint,
        channels=tuple(plans.dataset.channels),
        target=plans.dataset.target_name,
        transpose=configuration.transpose,
        spacing=configuration.spacing,
        window_size=configuration.patch_size,
        step_size=0.5,
        condition_normalization=configuration.condition_normalization,
        target_normalization=configuration.target_normalization,
        background=configuration.background,
        order=configuration.order,
        realism=model.realism,
    )


def _example(model: LoadedModel) -> torch.Tensor:
    """Two windows, since a batch of one would be taken for the only size."""
    configuration = model.plans.configuration(model.configuration)
    return torch.zeros(2, configuration.network.in_channels, *configuration.patch_size)


def _program(network: nn.Module, example: torch.Tensor) -> Any:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(network, (example,), dynamic_shapes={"condition": {0: batch}})


def _write_program(network: nn.Module, example: torch.Tensor, file: Path) -> None:
    torch.export.save(_program(network, example), file)


def _write_onnx(network: nn.Module, example: torch.Tensor, file: Path) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise GdmError(
            "writing ONNX needs a package that is not installed",
            found=str(error),
            remedy='pip install "gdmunet[onnx]"',
        ) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            _program(network, example),
            (),
            file,
            input_names=["condition"],
            output_names=["prediction"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
