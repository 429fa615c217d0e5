"""The drift loss: generated features drift onto the distribution of real ones ("Generative Modeling via Drifting").

Pure functions; nothing here knows images, encoders or trainers. Gradients flow only into the generated samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """

    direction: torch.Tensor
    scale: torch.Tensor
    raw_force: torch.Tensor
    effective_sample_size: torch.Tensor
    force_average: torch.Tensor


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
        (R,) `DriftField.force_average` of the previous call, for ``normalisation="ema"``; None starts the average.

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
    options = replace(options, **changes)
    _check_samples(generated, positives, negatives, negative_weights)
    _check_fit(generated, positives, options, force_average)
    with exact_float32(), full_precision(generated.device):
        with torch.no_grad():
            ranks = RankGroup.of(options.across_ranks)
            problem, centre = _pose(generated, positives, negatives, negative_weights, ranks, options)
            field, forces = _find_field(problem, options, force_average)
            unit = (field.scale / generated.shape[-1] ** 0.5).clamp(min=LEAST_UNIT)
        position = (generated.float() - centre) / unit
        if options.field == "logkde":
            loss = _log_ratio(position, field.direction, forces, unit / problem.distances.unit)
        else:
            loss = (position - (position + field.direction).detach()).square().mean((1, 2))
        # Processes with more samples count for more: the mean over processes is the mean over all samples.
        loss = loss * (generated.shape[1] * ranks.size / problem.queries_in_all)
    return loss, field


def _find_field(
    problem: Problem, options: DriftOptions, force_average: torch.Tensor | None
) -> tuple[DriftField, list[Force]]:
    """The field of all temperatures together, and the force of each."""
    scale = _mean_distance(problem)
    problem.distances.normalise(scale.clamp(min=LEAST_UNIT), options.mask_self)
    forces = [find_force(problem, temperature, options) for temperature in options.temperatures]
    dimensions = forces[0].vectors.shape[-1]
    vectors = torch.stack([force.vectors for force in forces]) / (scale / dimensions**0.5).clamp(min=LEAST_UNIT)
    raw_force, effective = _statistics(vectors, forces, problem)
    divisor, average = _divisor(raw_force, options, force_average)
    direction = torch.einsum("rbgd,r->bgd", vectors, 1.0 / divisor)
    return DriftField(direction, scale, raw_force, effective, average), forces


def _pose(
    generated: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None,
    negative_weights: torch.Tensor | None,
    ranks: RankGroup,
    options: DriftOptions,
) -> tuple[Problem, torch.Tensor]:
    """The problem over all processes, in float32, and the offset (B, 1, D) that was taken off its samples.

    A common offset changes no difference, yet round-off of squared norms, from which distances come, grows with it.
    """
    queries = generated.detach().float()
    extra = queries[:, :0] if negatives is None else negatives.detach().float()
    parts = [ranks.gather(part) for part in (queries, extra, positives.detach().float())]
    targets = torch.cat(parts, dim=1)
    centre = targets.mean(1, keepdim=True)
    targets, queries = targets - centre, queries - centre
    weights = None
    if negative_weights is not None:
        generated_weights, positive_weights = (torch.ones_like(part[..., 0]) for part in (parts[0], parts[2]))
        weights = ranks.gather(negative_weights.detach().float())
        weights = torch.cat([generated_weights, weights, positive_weights], dim=1)
    repelling = parts[0].shape[1] + parts[1].shape[1]
    first_self = ranks.first(queries.shape[1], queries.device)
    first_twin = repelling + ranks.first(positives.shape[1], queries.device) if options.mask_twins else None
    distances = Distances(queries, targets, first_self, options.block_elements, first_twin)
    return Problem(queries, targets, weights, repelling, parts[0].shape[1], distances, ranks), centre


def _mean_distance(problem: Problem) -> torch.Tensor:
    """Weighted mean of all distances over the mean weight; ()."""
    weights = problem.weights
    pairs = problem.targets[..., 0].numel() if weights is None else weights.sum()
    return problem.ranks.sum(problem.distances.total(weights)) / (pairs * problem.queries_in_all)


def _statistics(vectors: torch.Tensor, forces: list[Force], problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squares (R,) of the forces (R, B, G, D) and mean effective sample sizes (R,), over all processes."""
    sizes = torch.stack([force.effective_sizes.sum() for force in forces])
    sums = problem.ranks.sum(torch.stack([vectors.square().sum((1, 2, 3)), sizes]))
    samples = vectors.shape[1] * problem.queries_in_all
    return sums[0] / (samples * vectors.shape[-1]), sums[1] / samples


def _divisor(
    raw_force: torch.Tensor, options: DriftOptions, average: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Divisor of each temperature's force, and the (running) average of its root mean square."""
    root = raw_force.sqrt()
    if options.normalisation == "ema" and average is not None:
        root = options.force_decay * average.to(root) + (1.0 - options.force_decay) * root
    if options.field == "logkde":
        return torch.ones_like(root), root
    least = options.force_floor if options.normalisation == "floored" else 0.0
    return root.clamp(min=max(LEAST_FORCE, least)), root


def _log_ratio(
    position: torch.Tensor, direction: torch.Tensor, forces: list[Force], units: torch.Tensor
) -> torch.Tensor:
    """The sum over temperatures of log mean k#(x, y-) - log mean k#(x, y+), mean over samples; (B,).

    Its gradient is known, so none is traced through the distances: a term without value carries it.

    Parameters
    ----------
    units
        () unit of `position` over that of the kernel.
    """
    value = torch.stack([force.value for force in forces if force.value is not None]).sum(0).mean(1)
    slope = -(position * direction).sum(-1).mean(1) * units.square()
    return value + slope - slope.detach()


def _check_samples(
    generated: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None,
    negative_weights: torch.Tensor | None,
) -> None:
    sets = {"generated": generated, "positives": positives, "negatives": negatives}
    for name, samples in sets.items():
        if samples is None:
            continue
        fits = samples.ndim == 3 and (samples.shape[0], samples.shape[-1]) == (generated.shape[0], generated.shape[-1])
        if not fits or (name != "negatives" and samples.shape[1] == 0):
            raise GdmError(
                f"the drift loss cannot take these {name}",
                found=tuple(samples.shape),
                expected="(B, samples, D) with B and D of all sets equal, at least one sample generated and positive",
            )
    if negative_weights is not None and (negatives is None or negative_weights.shape != negatives.shape[:2]):
        raise GdmError(
            "the negatives' weights do not fit the negatives",
            found=tuple(negative_weights.shape),
            expected=None if negatives is None else tuple(negatives.shape[:2]),
        )


def _check_fit(
    generated: torch.Tensor, positives: torch.Tensor, options: DriftOptions, force_average: torch.Tensor | None
) -> None:
    if options.mask_twins and positives.shape[1] < generated.shape[1]:
        raise GdmError(
            "every generated sample needs a twin among the first positives",
            found=f"{positives.shape[1]} positives",
            expected=f"{generated.shape[1]} or more",
        )
    if force_average is not None and force_average.shape != (len(options.temperatures),):
        raise GdmError("the force average is not of these temperatures", found=tuple(force_average.shape))
