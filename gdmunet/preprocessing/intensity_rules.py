"""The intensity map of each channel, and the channel whose change the network predicts, if there is one."""

from __future__ import annotations

from dataclasses import dataclass

from gdmunet.dataset import DatasetDescriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.errors import GdmError
from gdmunet.hounsfield import HU_AIR, HU_RANGE, is_hounsfield, same_modality
from gdmunet.plans import NormalizationSpec, Reason
from gdmunet.preprocessing.case_fingerprint import IntensityStatistics
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.storage_spec import StorageSpec, StoredType

# A case's own percentiles: scanner spikes are cut, contrast is kept.
PERCENTILE_CLIP = (0.5, 99.5)
# Targets whose typical intensity differs more than this between cases can hardly share one scale.
MEDIAN_SPREAD = 2.0


@dataclass(frozen=True)
class IntensityPlan:
    """Normalisation of a data set.

    Attributes
    ----------
    residual_channel
        Condition channel that shares the target's map and is added to the network's output, or None.
    background
        Target value outside the body in raw units.
    storage
        Types in which prepared channels are stored.
    """

    conditions: tuple[NormalizationSpec, ...]
    target: NormalizationSpec
    residual_channel: int | None
    background: float
    storage: StorageSpec
    reasons: tuple[Reason, ...]


def plan_intensities(fingerprint: Fingerprint, descriptor: DatasetDescriptor) -> IntensityPlan:
    """Choose a map for every channel and the target.

    Raises
    ------
    GdmError
        The statistics of a channel or of the target allow no map, such as one single value everywhere.
    """
    statistics = fingerprint.intensities["target"]
    background, background_reason = _background(descriptor, statistics)
    target, reasons = _target(descriptor, statistics, background)
    spread = _median_spread(fingerprint)
    if not descriptor.hounsfield and spread > MEDIAN_SPREAD:
        reasons.append(
            Reason(
                "WARNING target intensities",
                f"medians differ {spread:.1f}-fold",
                "typical target values differ between cases as on unharmonised scanners; one map for all cases makes "
                "the network guess the scale: bring the targets to one scale first",
            )
        )
    residual = _residual_channel(descriptor)
    conditions = []
    for index, modality in enumerate(descriptor.channels):
        shared = index == residual or (is_hounsfield(modality) and descriptor.hounsfield)
        spec, reason = (
            (target, f"shares the target's map, so both are in one unit ({descriptor.target_name})")
            if shared
            else _condition(modality, fingerprint.intensities[str(index)])
        )
        conditions.append(spec)
        reasons.append(Reason(f"condition {index} ({modality})", describe(spec), reason))
    storage = plan_storage(descriptor)
    reasons += [_residual_reason(descriptor, residual), background_reason, _storage_reason(storage)]
    return IntensityPlan(tuple(conditions), target, residual, background, storage, tuple(reasons))


def plan_storage(descriptor: DatasetDescriptor) -> StorageSpec:
    """Channels in HU as whole numbers, other conditions as float16, another target in full (measured: benchmarks)."""
    conditions: list[StoredType] = ["int16" if is_hounsfield(word) else "float16" for word in descriptor.channels]
    return StorageSpec(tuple(conditions), "int16" if descriptor.hounsfield else "float32")


def describe(spec: NormalizationSpec) -> str:
    """A map in a few words."""
    low, high = spec.clip
    if spec.scheme == "affine":
        return f"clip [{low:g}, {high:g}], (x - {spec.offset:.4g}) / {spec.scale:.4g}"
    return f"per case: clip to percentiles {low:g} and {high:g}, z-score"


def _target(
    descriptor: DatasetDescriptor, statistics: IntensityStatistics, background: float
) -> tuple[NormalizationSpec, list[Reason]]:
    if descriptor.hounsfield:
        clip = HU_RANGE
        because = "Hounsfield units mean the same in every case: one map for all, scaled by mean and SD in the body"
    else:
        # The background is inside the clip range, so that it comes back exactly.
        clip = (min(statistics.minimum, background), max(statistics.maximum, background))
        because = (
            "one map for all cases, from the training targets in the body: at prediction there is no target whose "
            "mean and SD could invert a z-score of each case"
        )
    spec = NormalizationSpec("affine", clip, statistics.mean, _positive(statistics, "the target"))
    return spec, [Reason(f"target ({descriptor.target_name})", describe(spec), because)]


def _condition(modality: str, statistics: IntensityStatistics) -> tuple[NormalizationSpec, str]:
    if is_hounsfield(modality):
        scale = _positive(statistics, modality)
        return NormalizationSpec("affine", HU_RANGE, statistics.mean, scale), "Hounsfield units: one map for all cases"
    return (
        NormalizationSpec("percentile_zscore", PERCENTILE_CLIP),
        f"{modality} has no fixed unit: each case by its own body",
    )


def _residual_channel(descriptor: DatasetDescriptor) -> int | None:
    """The first channel of the target's modality, else the first in Hounsfield units if the target is."""
    numbers = range(len(descriptor.channels))
    same = [index for index in numbers if same_modality(descriptor.channels[index], descriptor.target_name)]
    return next((index for index in (*same, *numbers) if descriptor.in_unit_of_target(index)), None)


def _residual_reason(descriptor: DatasetDescriptor, channel: int | None) -> Reason:
    if channel is None:
        return Reason(
            "output", "the target itself", f"no condition is a {descriptor.target_name} that could be changed"
        )
    modality = descriptor.channels[channel]
    return Reason(
        "output",
        f"a change of condition {channel}",
        f"{modality} and {descriptor.target_name} have one unit: training starts at the condition's own error",
    )


def _storage_reason(storage: StorageSpec) -> Reason:
    meanings = {
        "int16": "whole Hounsfield units as int16",
        "float16": "other conditions as float16, an error of 1/2048 of a value at most",
        "float32": "a target without a fixed unit in full",
    }
    types = (*storage.conditions, storage.target)
    because = "; ".join(text for name, text in meanings.items() if name in types)
    return Reason("stored as", ", ".join(types), f"{because}; values that do not fit keep a case's channel in float32")


def _background(descriptor: DatasetDescriptor, statistics: IntensityStatistics) -> tuple[float, Reason]:
    if descriptor.background is not None:
        value, because = descriptor.background, f"{DESCRIPTOR_FILE} says so"
    elif descriptor.hounsfield:
        value, because = HU_AIR, f"air, since {descriptor.target_name} is in Hounsfield units"
    else:
        value, because = statistics.minimum, "the smallest value of the training targets"
    return value, Reason("background", f"{value:g}", because)


def _positive(statistics: IntensityStatistics, what: str) -> float:
    if not statistics.std > 0 or not statistics.minimum < statistics.maximum:
        raise GdmError(
            f"the intensities of {what} do not vary inside the body, so they cannot be normalised",
            found=f"minimum {statistics.minimum:g}, maximum {statistics.maximum:g}, SD {statistics.std:g}",
            expected="images with content inside the body mask",
            remedy="correct the volumes or the masks, then plan again",
        )
    return statistics.std


def _median_spread(fingerprint: Fingerprint) -> float:
    """Largest over smallest median target intensity of a case; 1 where not all are positive (no ratio scale)."""
    medians = [case.intensities["target"].median for case in fingerprint.cases.values()]
    return max(medians) / min(medians) if min(medians) > 0 else 1.0
