"""Typed plans: everything that planning decided, as preprocessing, training and prediction read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.drift_spec import DriftSpec
from gdmunet.errors import GdmError
from gdmunet.geometry import triple
from gdmunet.hounsfield import HU_RANGE
from gdmunet.network_spec import NetworkSpec
from gdmunet.plan_names import PresetName
from gdmunet.plan_versions import PLANS_FORMAT
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.quantities import counted
from gdmunet.ranges import counted_as, named, require, within
from gdmunet.serialization import load_json
from gdmunet.storage_spec import StorageSpec

_LARGEST = 1e12  # of an intensity, in any unit
# In the preprocessed folder, beside the plans.
FINGERPRINT_FILE = "dataset_fingerprint.json"


@dataclass(frozen=True)
class NormalizationSpec:
    """Map from raw intensities to network units.

    ``affine``: clip to `clip` (raw units), then (x - offset) / scale; one map for the whole data set.
    ``percentile_zscore``: per case, clip to the percentiles `clip` (0..100) of the body, then subtract the body's
    mean and divide by its standard deviation; offset and scale are unused.
    """

    scheme: Literal["affine", "percentile_zscore"]
    clip: tuple[float, float]
    offset: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        low, high = (0.0, 100.0) if self.scheme == "percentile_zscore" else (-_LARGEST, _LARGEST)
        within("the clip range", self.clip, low, high)
        require(self.clip[0] < self.clip[1], "the clip range is empty", self.clip, "the lower end first")
        within("the offset", self.offset, -_LARGEST, _LARGEST)
        within("the scale", self.scale, 1 / _LARGEST, _LARGEST)


# Hounsfield units where no plans give a scale: roughly the spread of soft tissue and bone.
STANDARD_HU = NormalizationSpec("affine", HU_RANGE, 0.0, 500.0)


@dataclass(frozen=True)
class MemoryFootprint:
    """Predicted peak bytes of one training step, by part. The parts add up to the peak.

    `encoder` holds a frozen encoder's weights and activations, `bank` features that it keeps, `output_gradients` those
    that are coordinated; all 0 without an encoder. `buckets`: gradients as several processes exchange them, else 0.
    """

    parameters: int
    gradients: int
    optimizer: int
    ema: int
    activations: int
    encoder: int = 0
    bank: int = 0
    output_gradients: int = 0
    buckets: int = 0

    def __post_init__(self) -> None:
        within("a part of the memory", vars(self).values(), 0, 1e18)

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return sum(vars(self).values())


DECODER_LEVEL = "decoder_"
"""First word of the name of a level that a segmenter's decoder gives."""


@dataclass(frozen=True)
class EncoderLevel:
    """One feature map of a frozen encoder: its channels, and its stride along every axis in voxels of the patch."""

    name: str
    channels: int
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        within("the channels of a level", self.channels, 1, 1 << 20)
        within("the stride of a level", self.stride, 1, 1 << 12)

    @property
    def in_decoder(self) -> bool:
        """Whether the map comes from a segmenter's decoder."""
        return self.name.startswith(DECODER_LEVEL)


@dataclass(frozen=True)
class EncoderSpec:
    """The frozen encoder that a training uses, pinned by the hash of its weights.

    Attributes
    ----------
    spec
        Name of the encoder as `-encoder` takes it: ``mini``, ``nnunet:FOLDER``, ``file.py:factory`` and so on.
    sha256
        Hash of the weight file, or of the weights if they do not come from a file.
    dimensions
        2 or 3.
    window
        Raw intensities (HU for CT) that the encoder sees, lowest and highest; None: all, it scales each patch itself.
    licence
        Licence of the weights.
    file
        Weight file that the user gave; None: the encoder's own place (package, cache).
    trusted
        Whether the user allowed (``--trust_checkpoint``) a pickle that may run code; it must still
        have the hash.
    """

    spec: str
    sha256: str
    dimensions: int
    window: tuple[float, float] | None
    levels: tuple[EncoderLevel, ...]
    licence: str
    file: str | None = None
    trusted: bool = False

    def __post_init__(self) -> None:
        within("the dimensions of an encoder", self.dimensions, 2, 3)
        within("the encoder's window", self.window, -_LARGEST, _LARGEST)
        for level in self.levels:
            counted_as("the stride of a level", level.stride, self.dimensions)


@dataclass(frozen=True)
class Configuration:
    """One way to look at the data (``3d_fullres``, ``3d_lowres``, ``2d``).

    Attributes
    ----------
    transpose
        Prepared axis i is canonical (LPS z, y, x) axis ``transpose[i]``; the axis of the largest spacing comes first.
    spacing
        Working voxel size in mm in prepared axis order; 2D: the two in-plane sizes, the first axis keeps its own.
    median_shape
        Median shape of the prepared volumes in voxels.
    patch_size, batch_size
        Patch in voxels (2D: two numbers) and patches per batch.
    condition_normalization, target_normalization
        One spec per channel, and one for the target.
    background
        Value of the target where there is no body, in raw units.
    order
        Spline order of resampling along finely sampled axes; 1 is used across thick slices.
    predicted_memory
        Peak memory of a step, for the trainer and precision that the plans were made for.
    encoder
        Frozen encoder of trainers that use one; None: planned for a trainer without.
    drift
        Sizes of the drift; None: there is no encoder, or the plans are of version 3 or earlier. Trainers then keep
        their own constants.
    iterations
        Optimiser steps of a training; None: as many as its trainer has. A length that a user or the trainer's class
        gives wins.
    storage
        Types in which prepared channels are stored; None: float32, as before plans of version 6.
    """

    name: str
    transpose: tuple[int, int, int]
    spacing: tuple[float, ...]
    median_shape: tuple[int, int, int]
    patch_size: tuple[int, ...]
    batch_size: int
    condition_normalization: tuple[NormalizationSpec, ...]
    target_normalization: NormalizationSpec
    background: float
    order: int
    network: NetworkSpec
    predicted_memory: MemoryFootprint
    encoder: EncoderSpec | None = None
    drift: DriftSpec | None = None
    iterations: int | None = None
    storage: StorageSpec | None = None

    def __post_init__(self) -> None:
        named("the configuration", self.name)
        require(sorted(self.transpose) == [0, 1, 2], "the axes are not an order", self.transpose, "0, 1 and 2")
        within("the voxel size", self.spacing, 1e-3, 1e3)
        within("the median shape", self.median_shape, 1, 1 << 16)
        within("the patch size", self.patch_size, 1, 1 << 14)
        within("the voxels of a patch", math.prod(self.patch_size), 1, 1 << 31)
        within("the batch size", self.batch_size, 1, 1 << 16)
        within("the background", self.background, -_LARGEST, _LARGEST)
        within("the order of resampling", self.order, 0, 5)
        within("the iterations of a training", 1 if self.iterations is None else self.iterations, 1, 1 << 40)
        for what, values in (("the voxel size", self.spacing), ("the network's strides", self.network.strides[0])):
            counted_as(what, values, self.dimensions)
        within("the number of condition channels", len(self.condition_normalization), 1, 1024)
        if self.storage is not None:
            counted_as("the stored types", self.storage.conditions, len(self.condition_normalization))

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.patch_size)

    @property
    def window_size(self) -> tuple[int, int, int]:
        """The patch as three numbers: a 2D patch is one slice thick."""
        return triple((*(1 for _ in range(3 - self.dimensions)), *self.patch_size))


@dataclass(frozen=True)
class Reason:
    """The reason of a choice, in words."""

    choice: str
    value: str
    because: str


@dataclass(frozen=True)
class Plans:
    """The content of plans.json.

    Attributes
    ----------
    dataset_name
        ``DatasetXXX_Name``.
    name
        Name of these plans; part of every results folder.
    planner
        Preset: plain, M, L, XL or tiny.
    trainer
        Trainer whose memory was counted.
    precision
        ``bfloat16``, ``float16`` (automatic mixed precision) or ``float32``: what the memory count assumed.
    memory_budget_gb
        Device memory (GB of 1e9 bytes) that a training step may use.
    fingerprint_hash
        sha256 of dataset_fingerprint.json: tells plans of another data set.
    ranges
        Ranges of the training cases; None: plans of an earlier version, which hold none.
    """

    dataset_name: str
    name: str
    planner: PresetName
    trainer: str
    precision: Literal["bfloat16", "float16", "float32"]
    memory_budget_gb: float
    dataset: DatasetDescriptor
    fingerprint_hash: str
    configurations: dict[str, Configuration]
    folds: tuple[Fold, ...]
    reasons: tuple[Reason, ...] = field(default_factory=tuple)
    ranges: RangeSpec | None = None
    version: int = PLANS_FORMAT.version

    def __post_init__(self) -> None:
        named("the data set", self.dataset_name)
        named("the plans", self.name)
        within("the memory budget", self.memory_budget_gb, 0, 1e6)
        for name, configuration in self.configurations.items():
            require(name == configuration.name, "a configuration has two names", configuration.name, name)

    def configuration(self, name: str) -> Configuration:
        """The configuration of that name; an unknown one lists the known ones."""
        if name not in self.configurations:
            raise GdmError(
                f"configuration {name} is not in the plans",
                found=f"{self.name} has {', '.join(self.configurations)}",
                remedy="choose one of these; a low resolution exists only where the patch sees too little of a volume",
            )
        return self.configurations[name]

    def fold(self, wanted: str, every_case: Sequence[str] | None = None) -> Fold:
        """The cases of fold ``"0"``, ``"1"``, ...; ``"all"``, where `every_case` is given, uses these for both.

        Raises
        ------
        GdmError
            The plans have no such fold; lists those that there are.
        """
        if wanted == "all" and every_case is not None:
            return Fold(training=tuple(every_case), validation=tuple(every_case))
        # "00" would be another folder of the same fold, which nobody finds again.
        if wanted in map(str, range(len(self.folds))):
            return self.folds[int(wanted)]
        known = [*map(str, range(len(self.folds))), *(["all"] if every_case is not None else [])]
        alone = "one patient alone cannot be split: " + ("take fold all" if known else "add a patient")
        raise GdmError(
            f"fold {wanted} is not in the plans",
            found=f"{self.name} has {counted(self.folds, 'fold')}",
            expected=", ".join(known) or "numbered folds",
            remedy="choose one of these" if self.folds else alone,
        )


def load_plans(file: Path) -> Plans:
    """Read plans.json of this version or an older one."""
    return load_json(Plans, file, "plans", PLANS_FORMAT)
