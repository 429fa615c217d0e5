"""The drift loss: generated features drift onto the distribution of real ones ("Generative Modeling via Drifting").

Pure functions; nothing here knows images, encoders or trainers. Gradients flow only into the generated samples.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from gdmunet.device import exact_float32, full_precision
from gdmunet.errors import GdmError
from gdmunet.training.drift.fields import Force, Problem, find_force
from gdmunet.training.drift.kernels import Distances
from gdmunet.training.drift.options import DriftOptions
from gdmunet.training.drift.ranks import RankGroup

LEAST_UNIT = 1e-3
"""Smallest unit of length: samples that all coincide divide by this."""
LEAST_FORCE = 1e-4
"""Smallest root mean square force that is divided by."""


@dataclass(frozen=True)
class DriftField:
    """Measurements of the drift for the journal, without gradients.

    Attributes
    ----------
    direction
        (B, G, D) where every generated sample should go, in units of `scale` / sqrt(D).
    scale
        () mean distance between generated samples and all others (self pairs included).
    raw_force
        (R,) mean square of the force per temperature, before it is normalised: falls as the distributions meet.
    effective_sample_size
        (R,) mean number of positives that a generated sample listens to, per temperature.
    force_average
        (R,) root of `raw_force`; with ``normalisation="ema"`` its running average, to be handed to the next call.
        Under ``frozen`` the caller averages the roots of the first calls, and hands that on.

    Notes
    -----
    Every shape has the number of sets before it, (S, ...), where `drift_losses` gives it.
    """

    direction: torch.Tensor
    scale: torch.Tensor
    raw_force: torch.Tensor
    effective_sample_size: torch.Tensor
    force_average: torch.Tensor

    def of_set(self, number: int) -> DriftField:
        """The measurements of one of several sets."""
        return DriftField(*(getattr(self, part.name)[number] for part in fields(self)))


def drift_loss(
    generated: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None = None,
    negative_weights: torch.Tensor | None = None,
    options: DriftOptions = DriftOptions(),  # noqa: B008 (frozen)
    *,
    force_average: torch.Tensor | None = None,
    **changes: Any,
) -> tuple[torch.Tensor, DriftField]:
    """Drift loss of B independent problems, whose unit of length and normalisation are common, and the field.

    With ``affinity_floor=1e-6`` the field ``official`` is the loss of Deng et al., arXiv 2602.04770, their public code.

    Parameters
    ----------
    generated, positives, negatives
        (B, G, D), (B, P, D) and (B, N, D) samples: generated, real, and further ones that repel; computed in float32.
    negative_weights
        (B, N) their weights, >= 0; generated samples and positives weigh 1.
    options, changes
        See `DriftOptions`; single fields of it as keywords, such as ``field="sharp"``.
    force_average
        (R,) `DriftField.force_average` of the previous call, for ``normalisation="ema"``, or the divisor of ``frozen``;
        None starts the average.

    Returns
    -------
    loss
        (B,) mean squared distance, in units of `scale` / sqrt(D), from where the samples should be (``logkde``: mean of
        the sum over temperatures of log mean k#(x, y-) - log mean k#(x, y+)); and a `DriftField`.

    Raises
    ------
    GdmError
        Shapes that do not fit, no positives, unknown names or numbers out of range.
    """
    _check_samples(generated, positives, negatives, negative_weights, "B")
    loss, field = drift_losses(
        generated[None],
        positives[None],
        None if negatives is None else negatives[None],
        None if negative_weights is None else negative_weights[None],
        replace(options, **changes),
        force_average=None if force_average is None else force_average[None],
    )
    return loss[0], field.of_set(0)


def drift_losses(
    generated: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None = None,
    negative_weights: torch.Tensor | None = None,
    options: DriftOptions = DriftOptions(),  # noqa: B008 (frozen)
    *,
    shared: torch.Tensor | None = None,
    force_average: torch.Tensor | None = None,
) -> tuple[torch.Tensor, DriftField]:
    """`drift_loss` of S sets of one size at once, each with its own unit of length and normalisation.

    Parameters
    ----------
    generated, positives, negatives, negative_weights, options, force_average
        The same as those of `drift_loss`, with S before the shapes: (S, B, G, D), (S, B, P, D), (S, B, N, D),
        (S, B, N), (S, R).
    shared
        (S, B, M, D) samples that attract and repel: the same, up to round-off, as behind both `positives` and
        `negatives`, at half the work.

    Returns
    -------
    loss
        (S, B); and a `DriftField` with S before its shapes.
    """
    _check_samples(generated, positives, negatives, negative_weights, "S, B")
    sides = Sides(positives, negatives, negative_weights, shared)
    _check_fit(generated, positives, options, force_average)
    with exact_float32(), full_precision(generated.device):
        with torch.no_grad():
            ranks = RankGroup.of(options.across_ranks)
            problem, centre = _pose(generated, sides, ranks, options)
            field, forces = _find_field(problem, options, force_average)
            unit = (field.scale / generated.shape[-1] ** 0.5).clamp(min=LEAST_UNIT)
        position = (generated.float() - centre) / unit[:, None, None, None]
        if options.field == "logkde":
            loss = _log_ratio(position, field.direction, forces, unit / field.scale.clamp(min=LEAST_UNIT))
        else:
            goal = (position + field.direction).detach()
            loss = torch.nn.functional.mse_loss(position, goal, reduction="none").mean((2, 3))
        # Processes with more samples count for more: the mean over processes is the mean over all samples.
        loss = loss * (generated.shape[2] * ranks.size / problem.queries_in_all)
    return loss, field


def _find_field(
    problem: Problem, options: DriftOptions, force_average: torch.Tensor | None
) -> tuple[DriftField, list[Force]]:
    """The field of all temperatures together, and the force of each."""
    scale = _mean_distance(problem)
    problem.distances.normalise(problem.of_problems(scale.clamp(min=LEAST_UNIT)), options.mask_self)
    forces = [find_force(problem, temperature, options) for temperature in options.temperatures]
    _, samples, dimensions = problem.queries.shape
    unit = (scale / dimensions**0.5).clamp(min=LEAST_UNIT)
    vectors = torch.stack([force.vectors for force in forces])
    vectors = vectors.view(len(forces), problem.sets, -1, samples, dimensions) / unit[:, None, None, None]
    raw_force, effective = _statistics(vectors, forces, problem)
    divisor, average = _divisor(raw_force, options, force_average)
    direction = torch.einsum("rsbgd,sr->sbgd", vectors, 1.0 / divisor)
    return DriftField(direction, scale, raw_force, effective, average), forces


@dataclass(frozen=True)
class Sides:
    """What generated samples meet; see `drift_losses`."""

    positives: torch.Tensor
    negatives: torch.Tensor | None
    negative_weights: torch.Tensor | None
    shared: torch.Tensor | None


def _pose(
    generated: torch.Tensor, sides: Sides, ranks: RankGroup, options: DriftOptions
) -> tuple[Problem, torch.Tensor]:
    """The problems over all processes, in float32, and the offset (S, B, 1, D) that was taken off their samples.

    A common offset changes no difference, yet round-off of squared norms, from which distances come, grows with it.
    """
    sets = len(generated)
    queries = generated.detach().float().flatten(0, 1)
    extra, shared, positives = (
        queries[:, :0] if part is None else part.detach().float().flatten(0, 1)
        for part in (sides.negatives, sides.shared, sides.positives)
    )
    parts = [ranks.gather(part) for part in (queries, extra, shared, positives)]
    targets = torch.cat(parts, dim=1)
    centre = targets.mean(1, keepdim=True)
    targets, queries = targets - centre, queries - centre
    weights = None
    if sides.negative_weights is not None:
        own = ranks.gather(sides.negative_weights.detach().float().flatten(0, 1))
        weights = torch.cat([own if part is parts[1] else torch.ones_like(part[..., 0]) for part in parts], dim=1)
    attracting = parts[0].shape[1] + parts[1].shape[1]
    repelling = attracting + parts[2].shape[1]
    first_self = ranks.first(queries.shape[1], queries.device)
    first_twin = repelling + ranks.first(positives.shape[1], queries.device) if options.mask_twins else None
    distances = Distances(queries, targets, first_self, options.block_elements, first_twin)
    problem = Problem(queries, targets, weights, repelling, attracting, parts[0].shape[1], distances, ranks, sets)
    return problem, centre.unflatten(0, (sets, -1))


def _mean_distance(problem: Problem) -> torch.Tensor:
    """Weighted mean of all distances over the mean weight; (S,)."""
    problems, targets, _ = problem.targets.shape
    weights, on_both_sides = problem.weights, problem.repelling - problem.attracting
    pairs = problems // problem.sets * (targets + on_both_sides) if weights is None else problem.by_set(weights)
    if weights is None and on_both_sides:
        weights = problem.counts
    elif weights is not None and on_both_sides:
        weights = weights * problem.counts
        pairs = problem.by_set(weights)
    return problem.ranks.sum(problem.distances.total(weights, problem.sets)) / (pairs * problem.queries_in_all)


def _statistics(vectors: torch.Tensor, forces: list[Force], problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squares (S, R) of the forces (R, S, B, G, D), and mean effective sample sizes, over all processes."""
    sizes = torch.stack([force.effective_sizes for force in forces]).view(len(forces), problem.sets, -1).sum(2).T
    sums = problem.ranks.sum(torch.stack([vectors.square().sum((2, 3, 4)).T, sizes]))
    samples = vectors.shape[2] * problem.queries_in_all
    return sums[0] / (samples * vectors.shape[-1]), sums[1] / samples


def _divisor(
    raw_force: torch.Tensor, options: DriftOptions, average: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Divisors (S, R) of each temperature's force, and the (running) average of its root mean square."""
    root = raw_force.sqrt()
    if options.normalisation == "frozen":
        return (root if average is None else average.to(root)).clamp(min=LEAST_FORCE), root
    if options.normalisation == "ema" and average is not None:
        root = options.force_decay * average.to(root) + (1.0 - options.force_decay) * root
    if options.field == "logkde":
        return torch.ones_like(root), root
    least = options.force_floor if options.normalisation == "floored" else 0.0
    return root.clamp(min=max(LEAST_FORCE, least)), root


def _log_ratio(
    position: torch.Tensor, direction: torch.Tensor, forces: list[Force], units: torch.Tensor
) -> torch.Tensor:
    """The sum over temperatures of log mean k#(x, y-) - log mean k#(x, y+), mean over samples; (S, B).

    Its gradient is known, so none is traced through the distances: a term without value carries it.

    Parameters
    ----------
    units
        (S,) unit of `position` over that of the kernel.
    """
    value = torch.stack([force.value for force in forces if force.value is not None]).sum(0).mean(1)
    slope = -(position * direction).sum(-1).mean(2) * units.square()[:, None]
    return value.view_as(slope) + slope - slope.detach()


def _check_samples(
    generated: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None,
    negative_weights: torch.Tensor | None,
    leading: str,
) -> None:
    """`leading`: names of the dimensions before samples and D."""
    sets = {"generated": generated, "positives": positives, "negatives": negatives}
    dimensions = leading.count(",") + 3
    for name, samples in sets.items():
        if samples is None:
            continue
        common = (*samples.shape[:-2], samples.shape[-1]) == (*generated.shape[:-2], generated.shape[-1])
        if samples.ndim != dimensions or not common or (name != "negatives" and samples.shape[-2] == 0):
            raise GdmError(
                f"the drift loss cannot take these {name}",
                found=tuple(samples.shape),
                expected=f"({leading}, samples, D), all but the samples equal in all sets, at least one sample "
                "generated and positive",
                remedy="give tensors of these shapes",
            )
    if negative_weights is not None and (negatives is None or negative_weights.shape != negatives.shape[:-1]):
        raise GdmError(
            "the negatives' weights do not fit the negatives",
            found=tuple(negative_weights.shape),
            expected=None if negatives is None else tuple(negatives.shape[:-1]),
            remedy="give one weight for each negative",
        )


def _check_fit(
    generated: torch.Tensor, positives: torch.Tensor, options: DriftOptions, force_average: torch.Tensor | None
) -> None:
    if options.mask_twins and positives.shape[2] < generated.shape[2]:
        raise GdmError(
            "every generated sample needs a twin among the first positives",
            found=f"{positives.shape[2]} positives",
            expected=f"{generated.shape[2]} or more",
            remedy="give the twins first among the positives",
        )
    if force_average is not None and force_average.shape != (len(generated), len(options.temperatures)):
        raise GdmError(
            "the force average is not of these temperatures",
            found=tuple(force_average.shape[1:]),
            remedy="start from an average of these temperatures",
        )
