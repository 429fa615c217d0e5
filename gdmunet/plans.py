"""Typed plans: everything that planning decided, as preprocessing, training and prediction read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gdmunet import commands
from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.errors import GdmError
from gdmunet.geometry import triple
from gdmunet.hounsfield import HU_RANGE
from gdmunet.plan_names import DEFAULT_PLANS, PresetName, planning_flags
from gdmunet.plan_versions import PLANS_FORMAT
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.quantities import counted
from gdmunet.serialization import load_json

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


# Hounsfield units where no plans give a scale: roughly the spread of soft tissue and bone.
STANDARD_HU = NormalizationSpec("affine", HU_RANGE, 0.0, 500.0)


@dataclass(frozen=True)
class NetworkSpec:
    """A U-Net in numbers. Lists run from the finest stage to the bottleneck; 2D nets have pairs.

    Attributes
    ----------
    block
        ``plain`` (convolution, norm, LeakyReLU) or ``residual`` encoder blocks.
    norm
        Normalisation layer after a convolution. Instance norm makes a prediction depend on where the windows lie.
    residual_channel
        Condition channel that is added to the output (network units), or None: the network then predicts a change.
    takes_state
        Whether it works step by step: its last two input channels are a sample's state and a plane of time, 0 to 1.
    dial_channels
        Channels of the convolutions that make the change towards realism; None: the network has no dial.
    """

    in_channels: int
    out_channels: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    block: Literal["plain", "residual"]
    norm: Literal["batch", "instance", "none"]
    residual_channel: int | None = None
    takes_state: bool = False
    dial_channels: int | None = None

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def condition_channels(self) -> int:
        """Input channels that are the condition."""
        return self.in_channels - (2 if self.takes_state else 0)


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

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class EncoderLevel:
    """One feature map of a frozen encoder: its channels, and its stride along every axis in voxels of the patch."""

    name: str
    channels: int
    stride: tuple[int, ...]


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
        if wanted.isdecimal() and int(wanted) < len(self.folds):
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


def find_plans(preprocessed_dataset_folder: Path, name: str | None = None) -> Plans:
    """Read the plans of that name in the preprocessed folder of a data set; without a name the only ones, or gdmPlans.

    Raises
    ------
    GdmError
        There are no plans of that name, or several to choose from; lists those that there are.
    """
    folder = Path(preprocessed_dataset_folder)
    known = sorted(path.stem for path in folder.glob("*.json") if path.name != FINGERPRINT_FILE)
    if name is None and len(known) > 1 and DEFAULT_PLANS not in known:
        raise GdmError(
            f"{folder.name} has several plans", file=folder, found=", ".join(known), remedy="choose plans with -p"
        )
    if name is None:
        name = known[0] if len(known) == 1 else DEFAULT_PLANS
    file = folder / f"{name}.json"
    if not file.is_file():
        raise GdmError(
            f"there are no plans {name} for {folder.name}",
            file=file,
            found=", ".join(known) or "no plans at all",
            remedy="choose plans with -p, or run {command}" if known else None,
            command=commands.plan_and_preprocess(folder.name, *planning_flags(name)),
        )
    return load_plans(file)
