"""The planner: from a fingerprint to plans, every choice with its reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.device import Precision
from gdmunet.encoders.base import VolumeUnits
from gdmunet.errors import GdmError
from gdmunet.geometry import triple
from gdmunet.plan_names import PresetName
from gdmunet.plans import Configuration, Plans, Reason
from gdmunet.preprocessing import reasons as words
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.preprocessing.intensity_rules import IntensityPlan, plan_intensities
from gdmunet.preprocessing.planned_encoder import ChooseEncoder, PlannedEncoder, TrainerFootprint
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.reasons import format_reasons
from gdmunet.preprocessing.sizing import FittedPatch, SizingProblem, fit_batch, fit_patch
from gdmunet.preprocessing.topology import Topology, fullres_target_spacing, plan_topology

__all__ = ["Topology", "format_reasons", "fullres_target_spacing", "plan_experiment", "plan_topology"]

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
RESAMPLING_ORDER = 3
# A patch that sees less than this share of a volume calls for a low resolution.
LOWRES_SHARE = 0.25
LOWRES_STEP = 1.03
# A low resolution with more than half of the full one's voxels is not worth its training.
LOWRES_GAIN = 2.0


@dataclass(frozen=True)
class _Task:
    """What all configurations share."""

    fingerprint: Fingerprint
    transpose: tuple[int, int, int]
    spacing: tuple[float, float, float]
    median_shape: tuple[int, int, int]
    intensities: IntensityPlan
    problem: SizingProblem
    encoders: dict[int, PlannedEncoder]


def plan_experiment(
    fingerprint: Fingerprint,
    dataset_name: str,
    descriptor: DatasetDescriptor,
    folds: tuple[Fold, ...],
    *,
    preset: PresetName,
    name: str,
    footprint: TrainerFootprint,
    trainer: str,
    precision: Precision,
    memory_budget_gb: float,
    choose: ChooseEncoder | None = None,
    configurations: Sequence[str] | None = None,
    target_spacing: Sequence[float] | None = None,
    fingerprint_hash: str = "",
) -> Plans:
    """Decide everything that preprocessing, training and prediction need to know.

    Parameters
    ----------
    footprint
        The trainer's prediction of its peak memory: (network, patch size, batch size, precision, encoder).
    memory_budget_gb
        GB of 1e9 bytes that one training step may use. Kernel workspaces and the device's own context come on top.
    choose
        Chooses the frozen encoder for 2 or 3 dimensions; None: the plans have none.
    configurations
        Which of ``2d``, ``3d_fullres``, ``3d_lowres``; None: all that make sense for the data.
    target_spacing
        Working voxel size in mm, canonical (z, y, x), instead of the planned one.

    Raises
    ------
    GdmError
        Unknown configuration, impossible spacing, a budget that not even the smallest patch fits, intensities that
        do not vary, or a data set for which none of the wanted configurations makes sense.
    """
    wanted = _check_configurations(configurations)
    spacing, spacing_reason = _target_spacing(fingerprint, target_spacing)
    transpose = _axis_order(spacing)
    intensities = plan_intensities(fingerprint, descriptor)
    encoders = _choose_encoders(choose, wanted, VolumeUnits(
        intensities.target, intensities.background, descriptor.target_name, transpose
    ))  # fmt: skip
    modules = {dimensions: planned.module for dimensions, planned in encoders.items()}
    problem = SizingProblem(
        PRESETS[preset],
        len(descriptor.channels),
        intensities.residual_channel,
        round(memory_budget_gb * 1e9),
        lambda network, patch, batch: footprint(network, patch, batch, precision, modules.get(network.dimensions)),
        slice_axis=None if descriptor.simulation is None else transpose.index(0),
    )
    task = _Task(
        fingerprint,
        transpose,
        triple(spacing[axis] for axis in transpose),
        _median_shape(fingerprint, spacing, transpose),
        intensities,
        problem,
        encoders,
    )
    planned, size_reasons = _plan_configurations(task, wanted)
    return Plans(
        dataset_name=dataset_name,
        name=name,
        planner=preset,
        trainer=trainer,
        precision=precision,
        memory_budget_gb=memory_budget_gb,
        dataset=descriptor,
        fingerprint_hash=fingerprint_hash,
        configurations=planned,
        folds=folds,
        reasons=(
            spacing_reason,
            words.axis_order(transpose, spacing),
            words.body(descriptor, fingerprint),
            *intensities.reasons,
            *(planned_encoder.reason for planned_encoder in encoders.values()),
            words.memory(trainer, precision, memory_budget_gb, preset),
            *words.simulation(descriptor),
            *size_reasons,
            words.folds(folds, len(fingerprint.cases)),
        ),
    )


def _choose_encoders(
    choose: ChooseEncoder | None, wanted: tuple[str, ...], units: VolumeUnits
) -> dict[int, PlannedEncoder]:
    """By dimensions, for the wanted configurations."""
    if choose is None:
        return {}
    return {number: choose(units, number) for number in sorted({2 if name == "2d" else 3 for name in wanted})}


def _check_configurations(configurations: Sequence[str] | None) -> tuple[str, ...]:
    wanted = CONFIGURATIONS if configurations is None else tuple(configurations)
    unknown = [name for name in wanted if name not in CONFIGURATIONS]
    if unknown or not wanted:
        raise GdmError(
            f"unknown configuration {', '.join(unknown)}" if unknown else "no configuration was asked for",
            expected=f"any of {', '.join(CONFIGURATIONS)}",
        )
    return wanted


def _target_spacing(
    fingerprint: Fingerprint, given: Sequence[float] | None
) -> tuple[tuple[float, float, float], Reason]:
    if not fingerprint.cases:
        raise GdmError("the fingerprint holds no case", remedy="measure the training cases first")
    spacings = [case.spacing for case in fingerprint.cases.values()]
    median = tuple(float(n) for n in np.median(np.asarray(spacings), axis=0))
    if given is None:
        spacing = fullres_target_spacing(spacings, [case.shape for case in fingerprint.cases.values()])
        return spacing, words.spacing(spacing, median, given=False)
    if len(given) != 3 or not np.isfinite(given).all() or min(given) <= 0:
        raise GdmError(
            "the target spacing is impossible",
            found=tuple(given),
            expected="three positive numbers in mm: z y x",
            remedy="correct -overwrite_target_spacing",
        )
    chosen = (float(given[0]), float(given[1]), float(given[2]))
    return chosen, words.spacing(chosen, median, given=True)


def _axis_order(spacing: tuple[float, ...]) -> tuple[int, int, int]:
    """The axis of the largest spacing first, the others in their order."""
    first = int(np.argmax(spacing))
    return triple((first, *(axis for axis in range(3) if axis != first)))


def _median_shape(
    fingerprint: Fingerprint, spacing: tuple[float, ...], transpose: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Median over cases of the resampled shapes, in prepared axis order."""
    shapes = [
        [round(old / new * size) for old, new, size in zip(case.spacing, spacing, case.shape, strict=True)]
        for case in fingerprint.cases.values()
    ]
    median = np.median(np.asarray(shapes), axis=0)
    return triple(max(1, round(float(median[axis]))) for axis in transpose)


def _plan_configurations(task: _Task, wanted: tuple[str, ...]) -> tuple[dict[str, Configuration], list[Reason]]:
    planned: dict[str, Configuration] = {}
    reasons: list[Reason] = []
    flat = task.median_shape[0] == 1
    if "2d" in wanted:
        _add(planned, reasons, task, "2d", task.spacing)
    if flat and set(wanted) - {"2d"}:
        reasons.append(Reason("3D", "dropped", "the volumes are one slice thick"))
    elif set(wanted) - {"2d"}:
        full = fit_patch(task.spacing, task.median_shape, task.problem, "3d_fullres")
        if "3d_fullres" in wanted:
            _add(planned, reasons, task, "3d_fullres", task.spacing, full)
        if "3d_lowres" in wanted:
            spacing, fitted, reason = _lowres(task, full)
            reasons.append(reason)
            if fitted is not None:
                _add(planned, reasons, task, "3d_lowres", spacing, fitted)
    if not planned:
        raise GdmError(
            f"the data set needs no {', '.join(wanted)}",
            found="; ".join(f"{reason.choice} {reason.value}: {reason.because}" for reason in reasons),
            remedy=f"ask for others of {', '.join(CONFIGURATIONS)}",
        )
    return {key: planned[key] for key in CONFIGURATIONS if key in planned}, reasons


def _add(
    planned: dict[str, Configuration],
    reasons: list[Reason],
    task: _Task,
    name: str,
    spacing: tuple[float, ...],
    fitted: FittedPatch | None = None,
) -> None:
    """Complete one configuration: patch (unless `fitted` already), batch, network, predicted memory."""
    shape = _slices_kept(task) if name == "2d" else _shape_at(task, spacing)
    first_axis = 1 if name == "2d" else 0
    spacing = spacing[first_axis:]
    if fitted is None:
        fitted = fit_patch(spacing, tuple(list(shape)[first_axis:]), task.problem, name)
    voxels = float(np.prod(shape)) * len(task.fingerprint.cases)
    batch_size = fit_batch(fitted.topology, voxels, task.problem)
    network = task.problem.network(fitted.topology)
    memory = task.problem.footprint(network, fitted.topology.patch_size, batch_size)
    planned[name] = Configuration(
        name=name,
        transpose=task.transpose,
        spacing=spacing,
        median_shape=shape,
        patch_size=fitted.topology.patch_size,
        batch_size=batch_size,
        condition_normalization=task.intensities.conditions,
        target_normalization=task.intensities.target,
        background=task.intensities.background,
        order=RESAMPLING_ORDER,
        network=network,
        predicted_memory=memory,
        encoder=task.encoders[network.dimensions].spec if network.dimensions in task.encoders else None,
    )
    reasons += words.sizes(planned[name], fitted, task.problem, voxels)


def _slices_kept(task: _Task) -> tuple[int, int, int]:
    """Median shape of the 2D configuration, which resamples within the slices only."""
    slices = np.median([case.shape[task.transpose[0]] for case in task.fingerprint.cases.values()])
    return (max(1, round(float(slices))), *task.median_shape[1:])


def _shape_at(task: _Task, spacing: tuple[float, ...]) -> tuple[int, int, int]:
    """Median shape in voxels at another spacing (prepared axis order)."""
    return triple(
        max(1, round(old / new * size)) for old, new, size in zip(task.spacing, spacing, task.median_shape, strict=True)
    )


def _lowres(task: _Task, full: FittedPatch) -> tuple[tuple[float, float, float], FittedPatch | None, Reason]:
    """Grow the spacing until a patch sees a quarter of a volume; None where the full resolution is enough."""
    full_voxels = float(np.prod(task.median_shape))
    share = float(np.prod(full.topology.patch_size)) / full_voxels
    seen, voxels, spacing, fitted = share, full_voxels, np.asarray(task.spacing), full
    while seen < LOWRES_SHARE:
        # Axes more than twice finer than the coarsest grow first, until the voxels are about cubes.
        finer = spacing.max() / spacing > 2
        spacing = np.where(finer if finer.any() else True, spacing * LOWRES_STEP, spacing)
        voxels = float(np.prod(np.asarray(task.spacing) / spacing * task.median_shape))
        now = triple(float(n) for n in spacing)
        fitted = fit_patch(now, _shape_at(task, now), task.problem, "3d_lowres")
        seen = float(np.prod(fitted.topology.patch_size)) / voxels
    chosen = triple(float(n) for n in spacing)
    gain = full_voxels / voxels
    reason = words.lowres(share, seen, gain, needed=share < LOWRES_SHARE, kept=gain >= LOWRES_GAIN, spacing=chosen)
    kept = share < LOWRES_SHARE and gain >= LOWRES_GAIN
    return chosen, fitted if kept else None, reason
