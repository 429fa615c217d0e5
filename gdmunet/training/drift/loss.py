"""The drift loss: generated features drift onto the distribution of real ones ("Generative Modeling via Drifting").

Pure functions; nothing here knows images, encoders or trainers. Gradients flow only into the generated samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from gdmunet.errors import GdmError
from gdmunet.training.drift.fields import FieldName, FieldOptions, Force, Problem, find_force
from gdmunet.training.drift.kernels import Distances, Kernel
from gdmunet.training.drift.ranks import RankGroup

Normalisation = Literal["batch", "ema", "floored"]

LEAST_UNIT = 1e-3
"""Smallest unit of length: samples that all coincide divide by this."""
LEAST_FORCE = 1e-4
"""Smallest root mean square force that is divided by."""


@dataclass(frozen=True)
class DriftField:
    """What the drift did, for the journal; nothing here carries a gradient.

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
    temperatures: Sequence[float] = (0.02, 0.05, 0.2),
    *,
    field: FieldName = "official",
    kernel: Kernel = "laplace",
    affinity_floor: float = 1e-6,
    normalisation: Normalisation = "batch",
    force_average: torch.Tensor | None = None,
    force_decay: float = 0.99,
    force_floor: float = 0.1,
    mask_self: bool = True,
    mask_twins: bool = False,
    sinkhorn_iterations: int = 3,
    block_elements: int = 2**24,
    across_ranks: bool = False,
) -> tuple[torch.Tensor, DriftField]:
    """Drift loss of B independent problems, and what the field did.

    Every problem has its own sets of samples; the unit of length and the normalisation of the force are common to all.
    One pooled problem (B = 1) has all tokens of a feature family in its sets. Pairing by index, as for registered
    images, is a matter of shape: make every location a problem, B = locations and G = images.

    Parameters
    ----------
    generated
        (B, G, D) generated samples; any float type, computed in float32. They also repel each other.
    positives
        (B, P, D) real samples, P >= 1.
    negatives
        (B, N, D) further samples that repel.
    negative_weights
        (B, N) their weights, >= 0; generated samples and positives weigh 1.
    temperatures
        Widths of the kernel in units of the mean distance; the forces add up.
    field
        ``official``: affinities balanced over targets and queries; ``sinkhorn``: the same with `sinkhorn_iterations`;
        ``sharp``, ``score``, ``mmd``: differences of mean shifts (see `mean_shift`); ``logkde``: the scalar whose
        gradient is minus the ``sharp`` field. Its value falls to 0 as the distributions meet, and it is never
        normalised; the value of all others is nearly constant and says nothing.
    kernel
        Laplace exp(-r / tau) or Gaussian exp(-r^2 / (2 tau^2)).
    affinity_floor
        Least product of the two softmaxes (``official``, ``sinkhorn``); 0: none.
    normalisation
        Divisor of the force of each temperature: ``batch``, its root mean square; ``ema``, a running average of that
        (`force_average` of the previous call's field; None starts it; `force_decay` is the share it keeps);
        ``floored``, its root mean square but at least `force_floor`: a force below it, mostly noise, stays small.
    mask_self
        A generated sample does not repel itself.
    mask_twins
        The first G positives are the real samples at the places of the generated ones, and none attracts its own twin:
        without a self that repels, a twin that attracts would unbalance equal sets, and the samples would spread.
    block_elements
        Most distances held at once in a buffer, of which there are about three. Numbers do not depend on it.
    across_ranks
        The sets are spread over all training processes, each of which calls this with its own part: the mean of the
        losses and gradients over processes is that of one process with everything.

    Returns
    -------
    loss
        (B,) float32; mean over a problem's samples and dimensions of the squared distance, in units of `scale` /
        sqrt(D), from where the sample should be (``logkde``: mean over samples of the sum over temperatures of
        log mean k#(x, y-) - log mean k#(x, y+)).
    drift_field
        See `DriftField`.

    Raises
    ------
    GdmError
        For shapes that do not fit, no positives, unknown names or numbers out of range.

    Notes
    -----
    ``official`` is the loss of Deng et al., arXiv 2602.04770, and equals their public code.
    """
    _check_samples(generated, positives, negatives, negative_weights)
    if mask_twins and positives.shape[1] < generated.shape[1]:
        raise GdmError(
            "every generated sample needs a twin among the first positives",
            found=f"{positives.shape[1]} positives",
            expected=f"{generated.shape[1]} or more",
        )
    check_options(
        temperatures, field, kernel, normalisation, sinkhorn_iterations, affinity_floor, force_decay, force_floor
    )
    if force_average is not None and force_average.shape != (len(temperatures),):
        raise GdmError("the force average is not of these temperatures", found=tuple(force_average.shape))
    options = FieldOptions(kernel, affinity_floor, mask_self, sinkhorn_iterations if field == "sinkhorn" else 1)
    ranks = RankGroup.of(across_ranks)
    with _full_precision(generated.device):
        with torch.no_grad():
            problem, centre = _pose(
                generated, positives, negatives, negative_weights, ranks, block_elements, mask_twins
            )
            scale = _mean_distance(problem)
            problem.distances.normalise(scale.clamp(min=LEAST_UNIT), mask_self)
            unit = (scale / generated.shape[-1] ** 0.5).clamp(min=LEAST_UNIT)
            forces = [find_force(problem, field, temperature, options) for temperature in temperatures]
            vectors = torch.stack([force.vectors for force in forces]) / unit
            raw_force, effective = _statistics(vectors, forces, problem)
            divisor, average = _divisor(raw_force, normalisation, force_average, force_decay, force_floor)
            if field == "logkde":
                divisor = torch.ones_like(divisor)
            direction = torch.einsum("rbgd,r->bgd", vectors, 1.0 / divisor)
        position = (generated.float() - centre) / unit
        if field == "logkde":
            loss = _log_ratio(position, direction, forces, unit / problem.distances.unit)
        else:
            loss = (position - (position + direction).detach()).square().mean((1, 2))
        # Processes with more samples count for more: the mean over processes is the mean over all samples.
        loss = loss * (generated.shape[1] * ranks.size / problem.queries_in_all)
    return loss, DriftField(direction, scale, raw_force, effective, average)


def _pose(
    generated: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None,
    negative_weights: torch.Tensor | None,
    ranks: RankGroup,
    block_elements: int,
    mask_twins: bool,
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
    first_twin = repelling + ranks.first(positives.shape[1], queries.device) if mask_twins else None
    distances = Distances(queries, targets, first_self, block_elements, first_twin)
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
    raw_force: torch.Tensor, normalisation: Normalisation, average: torch.Tensor | None, decay: float, floor: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each temperature's force is divided by, and the (running) average of its root mean square."""
    root = raw_force.sqrt()
    if normalisation == "ema" and average is not None:
        root = decay * average.to(root) + (1.0 - decay) * root
    return root.clamp(min=max(LEAST_FORCE, floor if normalisation == "floored" else 0.0)), root


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


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """True float32: differences of near samples drown in the round-off of TF32 and bfloat16."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)


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


def check_options(
    temperatures: Sequence[float],
    field: str,
    kernel: str,
    normalisation: str,
    sinkhorn_iterations: int,
    affinity_floor: float,
    force_decay: float,
    force_floor: float,
) -> None:
    """Refuse what `drift_loss` cannot take, before the first step needs it: GdmError names the values."""
    choices = {"field": (field, FieldName), "kernel": (kernel, Kernel), "normalisation": (normalisation, Normalisation)}
    for name, (value, kind) in choices.items():
        if value not in get_args(kind):
            raise GdmError(f"unknown {name} of the drift loss", found=value, expected=", ".join(get_args(kind)))
    if field == "logkde" and normalisation != "batch":
        raise GdmError(
            "the field logkde is never normalised, its value would mean nothing",
            found=f"normalisation {normalisation}",
            remedy="take the field sharp, which has the same direction",
        )
    possible = sinkhorn_iterations >= 1 and 0 <= affinity_floor < 1 and 0 <= force_decay <= 1 and force_floor >= 0
    if not temperatures or min(temperatures) <= 0 or not possible:
        raise GdmError(
            "the drift loss cannot take these numbers",
            found=f"temperatures {tuple(temperatures)}, sinkhorn_iterations {sinkhorn_iterations}, "
            f"affinity_floor {affinity_floor}, force_decay {force_decay}, force_floor {force_floor}",
            expected="temperatures above 0 (at least one), at least one iteration, an affinity floor from 0 to "
            "below 1, a decay from 0 to 1, a force floor of 0 or more",
        )
