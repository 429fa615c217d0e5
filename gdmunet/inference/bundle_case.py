"""A prediction inside a MONAI bundle: what stands between MONAI's reading and writing of volumes.

A bundle carries this file and those that it imports, so it needs neither gdmunet nor anything that knows the plans:
all numbers come from the bundle's ``network.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from gdmunet.composition import MaskSource
from gdmunet.dataset_names import condition_name
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry, triple
from gdmunet.inference.members import on_windows
from gdmunet.inference.sliding_window import predict_volume
from gdmunet.inference.window_options import WindowOptions
from gdmunet.preprocessing.preprocessor import border_values, prepare_case, restore_prediction

_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class BundleVolumes:
    """The volumes of one case, as `prepare_case` takes them: conditions (C, z, y, x), mask bool or None."""

    identifier: str
    conditions: np.ndarray
    mask: np.ndarray | None
    geometry: Geometry
    target: None = None
    mask_source: MaskSource = "given"


class CaseInferer:
    """An inferer of MONAI: prepares whole volumes, runs the windows through the network and undoes the preparation.

    Parameters
    ----------
    description
        The bundle's ``network.json``.
    step_size
        Distance of neighbouring windows as a share of the window; None: that of the description.
    batch_size
        Windows in one pass.
    """

    def __init__(self, description: str | Path, step_size: float | None = None, batch_size: int = 1) -> None:
        described = _namespace(json.loads(Path(description).read_text()))
        self.configuration: Any = described  # it has the fields of a configuration that a prediction needs
        self.window = triple((*[1] * (3 - len(described.window_size)), *described.window_size))
        self.step_size, self.batch_size = step_size or described.step_size, batch_size

    def __call__(
        self,
        inputs: Any,
        network: Callable[[torch.Tensor], torch.Tensor],
        *_args: Any,
        mask: Any = None,
        **_options: Any,
    ) -> Any:
        """Predict a batch.

        Parameters
        ----------
        inputs
            MetaTensor (B, C, z, y, x) in the raw units of the training data, whose axes point to superior, posterior
            and left.
        network
            (B, C, *window) -> (B, 1, *window) in network units, on the device of `inputs`.
        mask
            Bodies (B, 1, z, y, x) on the same grids, above 0 inside; None: they are derived from `inputs`.

        Returns
        -------
        MetaTensor (B, 1, z, y, x) float32 in the unit of the target, on the grids and the device of `inputs`.
        """
        affines = inputs.affine.reshape(-1, 4, 4).cpu().numpy()
        plain = inputs.as_tensor()
        made = []
        for number, (volume, affine) in enumerate(zip(plain, affines, strict=True)):
            body = None if mask is None else mask[number, 0].cpu().numpy() > 0
            spacing = triple(float(value) for value in np.linalg.norm(affine[:3, :3], axis=0))
            grid = Geometry(triple(volume.shape[1:]), spacing)
            case = BundleVolumes(str(number), volume.cpu().numpy().astype(np.float32), body, grid)
            made.append(torch.from_numpy(self._predict(case, network, plain.device)))
        result = torch.stack(made)[:, None].to(plain.device)
        # As a MetaTensor of the same grids: MONAI then undoes the orientation of the input for it.
        placed = type(inputs)(result, meta=inputs.meta, applied_operations=inputs.applied_operations)
        placed.is_batch = inputs.is_batch
        return placed

    def _predict(self, case: Any, network: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> np.ndarray:
        configuration = self.configuration
        prepared = prepare_case(case, configuration, configuration)
        properties = prepared.properties
        background = float(properties.target_map.apply(np.array(configuration.background)))
        [on_window] = on_windows([network], len(configuration.window_size))
        raw = predict_volume(
            on_window,
            prepared.condition,
            self.window,
            WindowOptions(self.step_size, background, device, self.batch_size),
            mask=prepared.mask,
            padding=border_values(properties),
        )
        return restore_prediction(raw, prepared.mask, properties, configuration)


def find_cases(folder: str | Path, channels: int, masks: str | Path | None = None) -> list[dict[str, Any]]:
    """The cases of a folder for MONAI's data set: ``image`` (a file for each channel) and, with `masks`, ``mask``.

    Of one channel the files may have any names; of several they are ``CASE_0000``, ``CASE_0001`` and so on.

    Raises
    ------
    GdmError
        No case, a channel or a mask that is not there.
    """
    files = {_stem(file): file for file in sorted(Path(folder).iterdir()) if file.name.endswith(_ENDINGS)}
    last = condition_name("", 0)
    names = list(files) if channels == 1 else [name.removesuffix(last) for name in files if name.endswith(last)]
    if not names:
        raise GdmError("there is no case", file=folder, expected="NIfTI files", remedy="give another dataset_dir")
    cases: list[dict[str, Any]] = []
    for name in names:
        wanted = [name] if channels == 1 else [condition_name(name, channel) for channel in range(channels)]
        case: dict[str, Any] = {"image": [str(_file(files, one, folder)) for one in wanted]}
        if masks is not None:
            bodies = {_stem(file): file for file in Path(masks).iterdir() if file.name.endswith(_ENDINGS)}
            case["mask"] = str(_file(bodies, name.removesuffix(last), masks))
        cases.append(case)
    return cases


def prepare_batch(
    batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **options: Any
) -> tuple[Any, None, tuple[()], dict[str, Any]]:
    """What MONAI's evaluator hands to the inferer: volumes, no label, and the masks if there are some."""
    image = batch["image"].to(device=device, non_blocking=non_blocking, **options)
    return image, None, (), {"mask": batch.get("mask")}


def _file(files: Mapping[str, Path], name: str, folder: str | Path) -> Path:
    if name not in files:
        raise GdmError("a file of a case is missing", case=name, file=folder, remedy="add it, or leave the case out")
    return files[name]


def _stem(file: Path) -> str:
    return next(file.name.removesuffix(ending) for ending in _ENDINGS if file.name.endswith(ending))


def _namespace(value: Any) -> Any:
    """JSON as objects with attributes, lists as tuples."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _namespace(one) for key, one in value.items()})
    return tuple(map(_namespace, value)) if isinstance(value, list) else value
