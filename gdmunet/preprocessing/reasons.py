"""Reasons of the planner's choices, in words that a radiologist can check, and a table of them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.device_memory import RESERVE
from gdmunet.plans import Configuration, Plans, Reason
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.preprocessing.loader_memory import loader_bytes
from gdmunet.preprocessing.planned_drift import PlannedDrift
from gdmunet.preprocessing.planning_options import PlanningOptions
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.sizing import FEWEST_SLICES, FittedPatch, SizingProblem, batch_limit
from gdmunet.quantities import counted, memory_size

_AXES = "zyx"


def family(options: PlanningOptions) -> list[Reason]:
    """The network family, if planning chose it for the machine."""
    if options.chosen_because is None:
        return []
    return [Reason("network family", options.preset, options.chosen_because)]


def spacing(chosen: tuple[float, ...], median: tuple[float, ...], given: bool) -> Reason:
    """Full-resolution voxel size."""
    if given:
        because = f"given by the user; the median of the training cases is {_numbers(median)}"
    elif np.allclose(chosen, median):
        because = "median of the training cases"
    else:
        because = (
            f"median {_numbers(median)}, but with thick slices that axis takes the 10th percentile, so that thin-slice "
            "cases keep their detail"
        )
    return Reason("spacing (z, y, x)", f"{_numbers(chosen)} mm", because)


def axis_order(transpose: tuple[int, int, int], canonical_spacing: tuple[float, ...]) -> Reason:
    """Which axis comes first."""
    first = transpose[0]
    if max(canonical_spacing) == min(canonical_spacing):
        because = "all axes have one voxel size, so they keep their order"
    else:
        because = f"{_AXES[first]} has the largest spacing ({canonical_spacing[first]:.4g} mm) and is handled first"
    return Reason("axis order", ", ".join(_AXES[axis] for axis in transpose), because)


def body(descriptor: DatasetDescriptor, fingerprint: Fingerprint) -> Reason:
    """Where the body mask comes from."""
    share = float(np.median([case.body_share for case in fingerprint.cases.values()]))
    if descriptor.mask:
        return Reason("body mask", "given", f"the data set has masks; the body fills {100 * share:.0f} % of the crop")
    return Reason(
        "body mask",
        "derived",
        f"no masks are given: thresholds of the condition find the body, {100 * share:.0f} % of the crop",
    )


def simulation(descriptor: DatasetDescriptor) -> tuple[Reason, ...]:
    """Why patches in 3D keep the slices whole, where the conditions were simulated."""
    scan = descriptor.simulation
    if scan is None:
        return ()
    return (
        Reason(
            "3D patches",
            "slices whole first",
            f"the streaks of {counted(scan.views, 'view')} span the slice: a patch keeps its extent in the slice "
            f"and loses slices, down to {FEWEST_SLICES}",
        ),
    )


def memory(options: PlanningOptions) -> Reason:
    """The budget, where it comes from, and whose step it is for."""
    where = f", on each of {options.gpus} GPUs" if options.gpus > 1 else ""
    return Reason(
        "memory budget",
        memory_size(options.budget_gb * 1e9),
        f"{_budget_source(options)}; peak of one step of {options.trainer} in {options.precision} with preset "
        f"{options.preset}, counted tensor by tensor{where}",
    )


def _budget_source(options: PlanningOptions) -> str:
    if options.memory_budget_gb is not None:
        return "given by the user; workspaces of the device's kernels come on top"
    preset, free = PRESETS[options.preset], options.free_memory_gb
    card = f"a card of {memory_size(1e9 * preset.card_gb)}, which preset {preset.name} is made for"
    if free is not None and (preset.fills_card or free < preset.card_gb):
        card = f"{memory_size(1e9 * free)} free on the GPU"
    return f"{card}, less {RESERVE / 1e9:g} GB or a tenth for the driver, workspaces of kernels and gaps"


def sizes(configuration: Configuration, fitted: FittedPatch, problem: SizingProblem, voxels: float) -> list[Reason]:
    """Patch, network and batch of one configuration."""
    return [
        _patch(configuration, fitted),
        Reason(f"{configuration.name} network", _network(configuration), "as deep as the patch can be halved"),
        _batch(configuration, fitted, problem, voxels),
        *_memory_shares(configuration),
        _loaders(configuration, problem.gpus),
    ]


def _memory_shares(configuration: Configuration) -> list[Reason]:
    """What the encoder takes of the memory; nothing for trainers without one."""
    memory = configuration.predicted_memory
    if not memory.encoder:
        return []
    parts = {
        "generator": memory.total - memory.encoder - memory.bank - memory.output_gradients,
        "encoder": memory.encoder,
        "feature bank": memory.bank,
        "output gradients": memory.output_gradients,
    }
    shares = ", ".join(f"{name} {100 * size / memory.total:.0f} %" for name, size in parts.items())
    return [Reason(f"{configuration.name} memory", memory_size(memory.total), f"predicted peak: {shares}")]


def drift(configuration: str, found: PlannedDrift) -> Reason:
    """Sizes of the drift."""
    spec = found.spec
    return Reason(
        f"{configuration} drift",
        f"{spec.tokens_per_patch} tokens, bank {spec.bank_patches}, battery {spec.battery}",
        "most tokens of a set per patch, but 128 at least, whose drift is at most a tenth: "
        f"{100 * found.operations:.1f} % of a step's operations, {100 * found.memory:.1f} % of the budget, with "
        f"{spec.bank_tokens} tokens of a bank of {spec.bank_patches} patches; a battery of {spec.battery} random "
        f"encoders would add {100 * found.encoder * spec.battery:.0f} % of the generator's operations",
    )


def lowres(share: float, seen: float, gain: float, *, needed: bool, kept: bool, spacing: tuple[float, ...]) -> Reason:
    """Whether there is a low resolution."""
    if not needed:
        return Reason("3d_lowres", "dropped", f"a full-resolution patch already sees {100 * share:.0f} % of a volume")
    if not kept:
        return Reason("3d_lowres", "dropped", f"the full resolution has only {gain:.1f} times as many voxels")
    return Reason(
        "3d_lowres",
        f"{_numbers(spacing)} mm",
        f"a full-resolution patch sees {100 * share:.0f} % of a volume, at this spacing {100 * seen:.0f} %",
    )


def folds(chosen: tuple[Fold, ...], cases: int, splits: Path | None) -> Reason:
    """How cases are split: by patient, or as the user's file says."""
    if splits is not None:
        return Reason("folds", str(len(chosen)), f"given by {splits.name}")
    if not chosen:
        return Reason("folds", "none", "one patient cannot be split; only training on all cases is possible")
    smallest = min(len(fold.validation) for fold in chosen)
    return Reason(
        "folds",
        str(len(chosen)),
        f"{counted(cases, 'case')} by patient, at least {counted(smallest, 'validation case')} per fold",
    )


def known_ranges(ranges: RangeSpec | None) -> tuple[Reason, ...]:
    """Whether prediction can tell an unusual case; nothing to say if it can."""
    if ranges is not None:
        return ()
    because = (
        "the fingerprint is of an earlier version and holds no measures for them: prediction cannot say which case "
        "lies outside; measure the data set again with gdm_extract_fingerprint"
    )
    return (Reason("ranges", "none", because),)


def format_reasons(plans: Plans, width: int = 120) -> str:
    """The choices of the plans as a table of three columns, wrapped to `width` characters."""
    rows = [("choice", "value", "because"), *((r.choice, r.value, r.because) for r in plans.reasons)]
    first = min(26, max(len(row[0]) for row in rows))
    second = min(36, max(len(row[1]) for row in rows))
    third = max(20, width - first - second - 4)
    lines = []
    for index, row in enumerate(rows):
        cells = [textwrap.wrap(cell, size) or [""] for cell, size in zip(row, (first, second, third), strict=True)]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            lines.append(f"{parts[0]:<{first}}  {parts[1]:<{second}}  {parts[2]}".rstrip())
        if index == 0:
            lines.append(f"{'-' * first}  {'-' * second}  {'-' * third}")
    return "\n".join(lines)


def _patch(configuration: Configuration, fitted: FittedPatch) -> Reason:
    patch, shape = configuration.patch_size, configuration.median_shape[3 - configuration.dimensions :]
    if any(fitted.shrunk):
        axes = [_AXES[axis] for axis in configuration.transpose][3 - configuration.dimensions :]
        steps = ", ".join(f"{axis} {n}" for axis, n in zip(axes, fitted.shrunk, strict=True) if n)
        how = f"shrunk from {_shape(fitted.first_patch)} until a step fits the memory (steps along {steps})"
    else:
        how = "the first patch, in proportion to the voxel size, fits the memory"
    seen = np.prod([min(1.0, n / size) for n, size in zip(patch, shape, strict=True)])
    return Reason(
        f"{configuration.name} patch",
        f"{_shape(patch)} voxels",
        f"{how}; it sees {100 * seen:.0f} % of the median {'slice' if len(shape) == 2 else 'volume'} {_shape(shape)}",
    )


def _network(configuration: Configuration) -> str:
    network = configuration.network
    return f"{network.block}, {len(network.features)} stages, widths {network.features[0]}-{max(network.features)}"


def _batch(configuration: Configuration, fitted: FittedPatch, problem: SizingProblem, voxels: float) -> Reason:
    preset, size = problem.preset, configuration.batch_size
    limit = problem.gpus * (batch_limit(fitted.topology, voxels, preset) // problem.gpus)
    predicted = f"predicted peak {memory_size(configuration.predicted_memory.total)} of {memory_size(problem.budget)}"
    if preset.batch_size is not None:
        why = f"fixed by the preset {preset.name}"
    elif size < limit:
        why = "as many as fit the memory"
    elif size * float(np.prod(configuration.patch_size)) > preset.dataset_share * voxels:
        why = f"two at least, though that is over {100 * preset.dataset_share:.0f} % of the data set's voxels"
    else:
        why = f"more would be over {100 * preset.dataset_share:.0f} % of the data set's voxels"
    if problem.gpus > 1:
        why += f", {size // problem.gpus} on each of {problem.gpus} GPUs"
    return Reason(f"{configuration.name} batch", str(size), f"{why}; {predicted}")


def _loaders(configuration: Configuration, gpus: int) -> Reason:
    needed = loader_bytes(configuration, configuration.batch_size // gpus)
    return Reason(
        f"{configuration.name} patches",
        f"{memory_size(needed)} of host memory",
        "for each process that makes patches; training starts no more of them than half of the free memory holds",
    )


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _shape(values: tuple[int, ...]) -> str:
    return " x ".join(map(str, values))
