"""The files of a MONAI bundle around an exported network: its configuration, metadata, documentation and code.

The code is that of gdmunet itself: the modules that prepare a case, run its windows and undo the preparation are
copied as `scripts`, with all that they import. So a bundle needs MONAI and not gdmunet, and there is no second version
of the preparation.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from gdmunet.atomic import write_bytes, write_text
from gdmunet.hounsfield import is_hounsfield
from gdmunet.version import __version__

PACKAGE = Path(__file__).parents[1]
SCRIPTS = "scripts"
FIRST_MODULE = "inference.bundle_case"
# The oldest MONAI that the extra asks for.
MONAI_VERSION = "1.5.0"
_NEEDED = ("nibabel", "pytorch-ignite", "scipy", "scikit-image", "psutil")


class Described(Protocol):
    """What a bundle's files say of its network: see `ExportedNetworkSpec`."""

    @property
    def file(self) -> str:
        """File of the network in the bundle."""

    @property
    def folds(self) -> tuple[str, ...]:
        """Folds that were averaged."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Modalities of the condition."""

    @property
    def background(self) -> float:
        """Value outside the body."""


def write_torchscript(network: nn.Module, example: torch.Tensor, file: Path, metadata: dict[str, Any]) -> None:
    """Write a traced network as MONAI's own tools read it; `metadata` lies in the file as well."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer about itself: TorchScript is what a bundle holds
        traced = torch.jit.trace(network, example, check_trace=False)
        content = traced.save_to_buffer(_extra_files={"metadata.json": json.dumps(metadata).encode()})
    write_bytes(file, content)


def write_bundle(bundle: Path, described: Described, metadata: dict[str, Any]) -> None:
    """Write all files of a bundle but the network and its description, which are there."""
    configs = bundle / "configs"
    for folder in (configs, bundle / "docs"):
        folder.mkdir()
    write_text(configs / "metadata.json", json.dumps(metadata, indent=2) + "\n")
    write_text(configs / "inference.json", json.dumps(_inference(described), indent=2) + "\n")
    write_text(bundle / "docs" / "README.md", _readme(described, metadata))
    write_text(bundle / "LICENSE", _licence())
    for name in _modules(FIRST_MODULE):
        copy = bundle / SCRIPTS / _file_of(name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        source = (PACKAGE / _file_of(name)).read_text()
        write_text(copy, re.sub(r"^(\s*from|import) gdmunet\b", rf"\1 {SCRIPTS}", source, flags=re.MULTILINE))
    for folder in {file.parent for file in (bundle / SCRIPTS).rglob("*.py")} | {bundle / SCRIPTS}:
        write_text(folder / "__init__.py", f'"""Part of gdmunet {__version__}, see the LICENSE beside it."""\n')


def bundle_metadata(channels: tuple[str, ...], target: str, window: tuple[int, ...], model: str) -> dict[str, Any]:
    """The content of metadata.json: versions, task, and the network's input and output, as MONAI's schema asks."""
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": f"written by gdmunet {__version__}"},
        "monai_version": MONAI_VERSION,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {name: _version(name) for name in _NEEDED},
        "task": f"synthesis of {target} from {' and '.join(channels)}",
        "description": f"{model}, trained by gdmunet {__version__}; one pass. Research software, not a medical device.",
        "authorship": "not said",
        "copyright": "not said",
        "intended_use": "research; not a medical device",
        "network_data_format": {
            "inputs": {"image": _format(channels, window, "image")},
            "outputs": {"pred": _format((target,), window, "image")},
        },
    }


def _format(names: tuple[str, ...], window: tuple[int, ...], kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "format": "hounsfield" if all(map(is_hounsfield, names)) else "magnitude",
        "modality": "CT" if all(map(is_hounsfield, names)) else "MR",
        "num_channels": len(names),
        "spatial_shape": list(window),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }


def _inference(described: Described) -> dict[str, Any]:
    """The content of inference.json: folders, reading, the inferer, MONAI's evaluator, writing."""
    module, case = f"{SCRIPTS}.{FIRST_MODULE}", FIRST_MODULE.rpartition(".")[2]
    keys = ["image", "mask"]
    oriented = {"_target_": "Orientationd", "keys": keys, "axcodes": "SPL", "labels": None, "allow_missing_keys": True}
    return {
        "imports": [f"$import {module} as {case}"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/input'",
        "mask_dir": None,
        "output_dir": "$@bundle_root + '/output'",
        "description_file": "$@bundle_root + '/network.json'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": f"$torch.jit.load(@bundle_root + '/{described.file}', map_location=@device)",
        "datalist": f"${case}.find_cases(@dataset_dir, {len(described.channels)}, @mask_dir)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": keys, "ensure_channel_first": True, "allow_missing_keys": True},
                oriented,
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": f"{module}.CaseInferer", "description": "@description_file"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
                 "nearest_interp": False, "to_tensor": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "",
                 "separate_folder": False, "resample": False, "output_dtype": "$numpy.float32"},
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network_def",
            "prepare_batch": f"${case}.prepare_batch",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _readme(described: Described, metadata: dict[str, Any]) -> str:
    packages = " ".join(f'"{name}>={version}"' for name, version in metadata["required_packages_version"].items())
    return f"""# {metadata["task"]}

{metadata["description"]} To run it in this folder:

    pip install "monai>={MONAI_VERSION}" fire {packages}
    python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
        --dataset_dir IMAGES --output_dir OUT

`IMAGES` holds NIfTI files in the raw unit of the training data ({", ".join(described.channels)}); of several channels
they are named CASE_0000, CASE_0001 and so on. `--mask_dir MASKS` gives body masks of the same names; without them the
body is derived. The result is on the grid of its input, float32, {described.background:g} outside the body.

`network.json` holds the normalisation, geometry and windows, `models/model.ts` the mean of the folds
{", ".join(described.folds)}. `scripts` is the part of gdmunet {__version__} (Apache-2.0) that prepares a case and puts
its prediction back, so the result is that of `gdm_predict --float`, without the checks of plausibility before it.
"""


def _licence() -> str:
    """gdmunet's own licence, for the code in the bundle; that of the weights is not known."""
    return (
        "The code in scripts/ is part of gdmunet, Copyright gdmunet contributors, licensed under the Apache License,\n"
        "Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
        "The licence of the weights in models/ is that which their owner gives.\n"
    )


def _version(name: str) -> str:
    """The version that is installed here; of a package that is not, the oldest that was tried."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return {"nibabel": "5.3.0", "pytorch-ignite": "0.5.0"}[name]


def _modules(first: str) -> list[str]:
    """A module of gdmunet and all modules of it that it needs, such as ``inference.windows``."""
    waiting, known = [first], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in known:
            known.add(name)
            waiting.extend(_imported(name))
    return sorted(known)


def _imported(name: str) -> Iterator[str]:
    """Modules of gdmunet that a module imports when it runs, not those that only the type checker sees."""
    for node in _run(ast.parse((PACKAGE / _file_of(name)).read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module is None or not node.module.startswith("gdmunet"):
            continue
        inner = node.module.removeprefix("gdmunet").removeprefix(".")
        for one in [inner, *(f"{inner}.{alias.name}".removeprefix(".") for alias in node.names)]:
            if one and (PACKAGE / _file_of(one)).is_file():
                yield one


def _run(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _run(child)


def _file_of(name: str) -> Path:
    return Path(*name.split(".")).with_suffix(".py")
