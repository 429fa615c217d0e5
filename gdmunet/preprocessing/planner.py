"""The planner: from a fingerprint to plans, every choice with its reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gdmunet.dataset import DatasetDescriptor, Fold
from gdmunet.encoders.base import VolumeUnits
from gdmunet.errors import GdmError
from gdmunet.geometry import Shape, Vector, triple
from gdmunet.plans import Configuration, Plans, Reason
from gdmunet.plausibility.findings import Finding
from gdmunet.preprocessing import reasons as words
from gdmunet.preprocessing.doubts import ranges_of, warning_rows
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.preprocessing.intensity_rules import IntensityPlan, plan_intensities
from gdmunet.preprocessing.operations import GeneratorStep
from gdmunet.preprocessing.planned_drift import PlanDrift
from gdmunet.preprocessing.planned_encoder import PlannedEncoder
from gdmunet.preprocessing.planned_length import with_lengths
from gdmunet.preprocessing.planned_step import StepTrial
from gdmunet.preprocessing.planning_options import CONFIGURATIONS, PlanningOptions
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.reasons import format_reasons
from gdmunet.preprocessing.sizing import MIN_BATCH, FittedPatch, SizingProblem, first_patch, fit_batch, fit_patch
from gdmunet.preprocessing.topology import Topology, fullres_target_spacing, plan_topology

__all__ = ["Topology", "format_reasons", "fullres_target_spacing", "plan_experiment", "plan_topology"]

RESAMPLING_ORDER = 3
# A patch that sees less than this share of a volume calls for a low resolution.
LOWRES_SHARE = 0.25
LOWRES_STEP = 1.03
# A low resolution with more than half of the full one's voxels is not worth its training.
LOWRES_GAIN = 2.0
# Largest edge of the patch beside which encoders are weighed; operations of both grow alike with the voxels.
WEIGHED_EDGE_3D, WEIGHED_EDGE_2D = 128, 512


@dataclass(frozen=True)
class _Task:
    """The parts that all configurations share."""

    fingerprint: Fingerprint
    transpose: tuple[int, int, int]
    spacing: Vector
    median_shape: Shape
    intensities: IntensityPlan
    problem: SizingProblem
    trial: StepTrial
    encoders: dict[int, PlannedEncoder]
    plan_drift: PlanDrift | None


def plan_experiment(
    fingerprint: Fingerprint,
    dataset_name: str,
    descriptor: DatasetDescriptor,
    folds: tuple[Fold, ...],
    options: PlanningOptions,
    fingerprint_hash: str = "",
    findings: Sequence[Finding] = (),
) -> Plans:
    """Make all decisions that preprocessing, training and prediction need.

    Parameters
    ----------
    findings
        Doubts of plausibility that do not forbid planning: each becomes a row of the reasons.

    Raises
    ------
    GdmError
        A budget that not even the smallest patch fits, intensities that do not vary, or a data set for which none of
        the wanted configurations makes sense.
    """
    spacing, spacing_reason = _target_spacing(fingerprint, options.target_spacing)
    task = _task(fingerprint, descriptor, options, spacing)
    planned, size_reasons = _plan_configurations(task, options.wanted)
    planned, length_reasons = with_lengths(planned, task.encoders, options.length)
    ranges = ranges_of(fingerprint, descriptor, options.accepted)
    return Plans(
        dataset_name=dataset_name,
        name=options.plans_name,
        planner=options.preset,
        trainer=options.trainer,
        precision=options.precision,
        memory_budget_gb=options.budget_gb,
        dataset=descriptor,
        fingerprint_hash=fingerprint_hash,
        configurations=planned,
        folds=folds,
        reasons=(
            *words.family(options),
            spacing_reason,
            words.axis_order(task.transpose, spacing),
            words.body(descriptor, fingerprint),
            *task.intensities.reasons,
            *(planned_encoder.reason for planned_encoder in task.encoders.values()),
            words.memory(options),
            *words.simulation(descriptor),
            *size_reasons,
            *length_reasons,
            words.folds(folds, len(fingerprint.cases), options.splits),
            *words.known_ranges(ranges),
            *warning_rows(findings, options.accepted),
        ),
        ranges=ranges,
    )


def _task(fingerprint: Fingerprint, descriptor: DatasetDescriptor, options: PlanningOptions, spacing: Vector) -> _Task:
    """Intensities, encoders and the memory problem; `spacing` is canonical."""
    transpose = _axis_order(spacing)
    intensities = plan_intensities(fingerprint, descriptor)
    units = VolumeUnits(intensities.target, intensities.background, descriptor.target_name, transpose)
    prepared = triple(spacing[axis] for axis in transpose)
    median_shape = _median_shape(fingerprint, spacing, transpose)
    steps = {
        number: _first_step(prepared[3 - number :], median_shape[3 - number :], options, descriptor, intensities)
        for number in sorted({2 if name == "2d" else 3 for name in options.wanted})
    }
    encoders = {} if options.choose is None else {n: options.choose(units, step) for n, step in steps.items()}
    trial = StepTrial(options.footprint, descriptor, options.precision, transpose, intensities, encoders, options.gpus)
    problem = SizingProblem(
        PRESETS[options.preset],
        len(descriptor.channels),
        intensities.residual_channel,
        round(options.budget_gb * 1e9),
        trial,
        gpus=options.gpus,
        slice_axis=None if descriptor.simulation is None else transpose.index(0),
    )
    return _Task(
        fingerprint,
        transpose,
        prepared,
        median_shape,
        intensities,
        problem,
        trial,
        encoders,
        options.plan_drift,
    )


def _first_step(
    spacing: tuple[float, ...],
    median_shape: tuple[int, ...],
    options: PlanningOptions,
    descriptor: DatasetDescriptor,
    intensities: IntensityPlan,
) -> GeneratorStep:
    """A step of a usual size beside which encoders are weighed: sizes are planned with the encoder that is chosen."""
    preset = PRESETS[options.preset]
    usual = replace(
        preset,
        first_edge_3d=min(preset.first_edge_3d, WEIGHED_EDGE_3D),
        first_edge_2d=min(preset.first_edge_2d, WEIGHED_EDGE_2D),
    )
    topology = plan_topology(spacing, first_patch(spacing, median_shape, usual), preset.max_poolings)
    network = preset.network(topology, len(descriptor.channels), intensities.residual_channel)
    return GeneratorStep(network, topology.patch_size, preset.batch_size or MIN_BATCH)


def _target_spacing(fingerprint: Fingerprint, given: Sequence[float] | None) -> tuple[Vector, Reason]:
    if not fingerprint.cases:
        raise GdmError("the fingerprint holds no case", remedy="measure the training cases first")
    spacings = [case.spacing for case in fingerprint.cases.values()]
    median = tuple(float(n) for n in np.median(np.asarray(spacings), axis=0))
    if given is None:
        spacing = fullres_target_spacing(spacings, [case.shape for case in fingerprint.cases.values()])
        return spacing, words.spacing(spacing, median, given=False)
    chosen = triple(float(n) for n in given)
    return chosen, words.spacing(chosen, median, given=True)


def _axis_order(spacing: tuple[float, ...]) -> tuple[int, int, int]:
    """The axis of the largest spacing first, the others in their order."""
    first = int(np.argmax(spacing))
    return triple((first, *(axis for axis in range(3) if axis != first)))


def _median_shape(fingerprint: Fingerprint, spacing: tuple[float, ...], transpose: tuple[int, int, int]) -> Shape:
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
            f"the data set does not need {', '.join(wanted)}",
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
    configuration = Configuration(
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
        storage=task.intensities.storage,
        encoder=task.encoders[network.dimensions].spec if network.dimensions in task.encoders else None,
    )
    configuration, of_drift = _with_drift(task, configuration)
    planned[name] = configuration
    reasons += [*words.sizes(configuration, fitted, task.problem, voxels), *of_drift]


def _with_drift(task: _Task, configuration: Configuration) -> tuple[Configuration, list[Reason]]:
    """The configuration with the sizes of its drift and the memory that it then takes, and the reason.

    Without room for them in the budget it keeps the trainers' constants, with which patch and batch were fitted.
    """
    encoder = task.encoders.get(configuration.dimensions)
    if task.plan_drift is None or encoder is None or encoder.module is None:
        return configuration, []
    found = task.plan_drift(configuration, encoder.module, task.trial.precision, task.problem.budget)
    memory = task.trial(configuration.network, configuration.patch_size, configuration.batch_size, found.spec)
    if memory.total > task.problem.budget:
        return configuration, []
    return replace(configuration, drift=found.spec, predicted_memory=memory), [words.drift(configuration.name, found)]


def _slices_kept(task: _Task) -> Shape:
    """Median shape of the 2D configuration, which resamples within the slices only."""
    slices = np.median([case.shape[task.transpose[0]] for case in task.fingerprint.cases.values()])
    return (max(1, round(float(slices))), *task.median_shape[1:])


def _shape_at(task: _Task, spacing: tuple[float, ...]) -> Shape:
    """Median shape in voxels at another spacing (prepared axis order)."""
    return triple(
        max(1, round(old / new * size)) for old, new, size in zip(task.spacing, spacing, task.median_shape, strict=True)
    )


def _lowres(task: _Task, full: FittedPatch) -> tuple[Vector, FittedPatch | None, Reason]:
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
