"""The fields that drift generated samples: the direction of each sample at one temperature.

Notation: x generated, y+ positives, y- everything that repels (the generated samples themselves and extra negatives),
r their distance in units of the mean distance, k(r) the kernel, tau the temperature, w weights.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from gdmunet.training.drift.kernels import Distances, joined, log2_kernel, log2_sum_exp2
from gdmunet.training.drift.options import DriftOptions
from gdmunet.training.drift.ranks import RankGroup

TINY = 1e-30


@dataclass(frozen=True)
class Problem:
    """B drift problems, in `sets` groups of equal size, one after the other.

    Attributes
    ----------
    queries
        (B, G, D) generated samples of this process.
    targets
        (B, C, D) what repels, what does both, and what attracts, in this order; of all processes.
    weights
        (B, C) weight of every target; None: 1.
    repelling
        Number of targets that repel: the first ones.
    attracting
        Number of targets before the first one that attracts; those between it and `repelling` do both, and count
        twice in every sum over targets.
    queries_in_all
        G summed over the processes.
    distances
        Distances of queries from targets, in units of the mean distance.
    """

    queries: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor | None
    repelling: int
    attracting: int
    queries_in_all: int
    distances: Distances
    ranks: RankGroup
    sets: int

    @functools.cached_property
    def summands(self) -> torch.Tensor:
        """Targets and a one, (B, C, D + 1): a product with weights gives their sum besides."""
        return torch.cat([self.targets, torch.ones_like(self.targets[..., :1])], dim=-1)

    @functools.cached_property
    def counts(self) -> torch.Tensor:
        """(C,) 1 of every target, 2 of those on both sides."""
        counts = torch.ones_like(self.targets[0, :, 0])
        counts[self.attracting : self.repelling] = 2
        return counts

    def by_set(self, values: torch.Tensor) -> torch.Tensor:
        """Sums (sets,) over each set of values (B, ...)."""
        return values.reshape(self.sets, -1).sum(1)

    def of_problems(self, values: torch.Tensor) -> torch.Tensor:
        """Values (sets,) of each set, for its problems; (B,)."""
        return values.repeat_interleave(len(self.queries) // self.sets)


@dataclass(frozen=True)
class Force:
    """A field at the queries.

    Attributes
    ----------
    vectors
        (B, G, D), in the units of the samples.
    effective_sizes
        (B, G) (sum A)^2 / sum A^2 over the affinities A to the positives.
    value
        (B, G) log mean k#(x, y-) - log mean k#(x, y+); None for fields that are not its gradient.
    """

    vectors: torch.Tensor
    effective_sizes: torch.Tensor
    value: torch.Tensor | None = None


def find_force(problem: Problem, temperature: float, options: DriftOptions) -> Force:
    """The field `options.field` at the queries of `problem`."""
    if options.field in ("official", "sinkhorn"):
        return affinity_force(problem, temperature, options)
    return kernel_mean_force(problem, temperature, options)


def affinity_force(problem: Problem, temperature: float, options: DriftOptions) -> Force:
    """a- sum_j A+_j y+_j - a+ sum_j A-_j y-_j with a+, a- the sums of A+ and A- (arXiv 2602.04770, their code).

    A is the kernel with rows and columns balanced, floored, times the weights. The coefficients of a query add up to
    zero, so the field does not see a common shift. One iteration of balancing is the official field; A is then the
    geometric mean of the softmax over targets and the softmax over queries.
    """
    of_rows, of_columns = balance(problem, temperature, options)
    repelling, attracting = slice(problem.repelling), slice(problem.attracting, None)
    vectors, sizes = [], []
    for rows, distances in problem.distances.blocks():
        scratch = problem.distances.scratch(0, rows)
        affinity = log2_kernel(distances, temperature, options.kernel, scratch, of_rows[:, rows]).add_(of_columns)
        if options.affinity_floor > 0:
            affinity.clamp_(min=options.log2_least_affinity)
        affinity.exp2_()
        if problem.weights is not None:
            affinity.mul_(problem.weights[:, None, :])
        # `@` would copy the two parts of the matrix.
        pull = torch.bmm(affinity[..., attracting], problem.summands[:, attracting])
        push = torch.bmm(affinity[..., repelling], problem.summands[:, repelling])
        vectors.append(push[..., -1:] * pull[..., :-1] - pull[..., -1:] * push[..., :-1])
        sizes.append(effective_sizes(affinity[..., attracting], pull[..., -1:]))
    return Force(joined(vectors), joined(sizes))


def balance(problem: Problem, temperature: float, options: DriftOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """What to add to the rows (B, G, 1) and columns (B, 1, C) of the log2 kernel so that both are balanced.

    Each iteration takes off half of either's log-sum, both at once: the geometric mean of normalised rows and
    normalised columns. It converges to the matrix that Sinkhorn's iteration finds, up to one factor.
    """
    plus = _first_balance(problem, temperature, options)
    for _ in range(options.balancing_rounds - 1):
        row_sums, column_sum = [], None
        for rows, distances in problem.distances.blocks():
            first, second = problem.distances.scratch(0, rows), problem.distances.scratch(1, rows)
            kernel = log2_kernel(distances, temperature, options.kernel, first)
            row_sums.append(_log2_row_sums(problem, torch.add(kernel, plus[1], out=second), second))
            of_block = log2_sum_exp2(kernel.add_(plus[0][:, rows]), -2, first)
            column_sum = of_block if column_sum is None else torch.logaddexp2(column_sum, of_block)
        assert column_sum is not None
        plus = (plus[0] - joined(row_sums)) / 2, (plus[1] - problem.ranks.logsumexp2(column_sum)) / 2
    return plus


def _first_balance(problem: Problem, temperature: float, options: DriftOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """The first iteration of `balance`: the largest entries are known, they belong to the least distances."""
    of_rows, of_columns = (
        log2_kernel(least, temperature, options.kernel, torch.empty_like(least), sign=-1.0)
        for least in problem.distances.least()
    )
    row_sums, column_sum = [], None
    for rows, distances in problem.distances.blocks():
        scratch = problem.distances.scratch(0, rows)
        shares = log2_kernel(distances, temperature, options.kernel, scratch, of_rows[:, rows]).exp2_()
        row_sums.append((shares @ problem.counts).unsqueeze(-1))
        shares = log2_kernel(distances, temperature, options.kernel, scratch, of_columns).exp2_()
        of_block = shares.sum(-2, keepdim=True)
        column_sum = of_block if column_sum is None else column_sum + of_block
    assert column_sum is not None
    sums = problem.ranks.logsumexp2(column_sum.log2_().sub_(of_columns))
    return of_rows.sub_(joined(row_sums).log2_()).div_(2), sums.div_(-2)


def _log2_row_sums(problem: Problem, values: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """log2 of the sum (B, rows, 1) of 2^values over the targets; `out` (may be `values`) is overwritten."""
    top = values.amax(-1, keepdim=True)
    return (torch.sub(values, top, out=out).exp2_() @ problem.counts).unsqueeze(-1).log2_().add_(top)


def kernel_mean_force(problem: Problem, temperature: float, options: DriftOptions) -> Force:
    """Mean shift towards the positives minus mean shift towards what repels; see `mean_shift`."""
    repelling, attracting = slice(problem.repelling), slice(problem.attracting, None)
    vectors, values, sizes = [], [], []
    for rows, distances in problem.distances.blocks():
        queries = problem.queries[:, rows]
        attraction, repulsion = (
            mean_shift(side, queries, temperature, options)
            for side in (
                _side(problem, attracting, rows, distances, options.mask_self),
                _side(problem, repelling, rows, distances, options.mask_self),
            )
        )
        vectors.append(attraction.vectors - repulsion.vectors)
        values.append(repulsion.log_mean - attraction.log_mean)
        sizes.append(attraction.effective_sizes)
    value = joined(values) if options.field == "logkde" else None
    return Force(joined(vectors), joined(sizes), value)


@dataclass(frozen=True)
class Side:
    """The targets that attract, or those that repel, as a block of queries sees them.

    Attributes
    ----------
    targets
        (B, n, D).
    distances
        (B, rows, n).
    weights
        (B, 1, n); None: 1.
    count
        (B or 1, 1, 1) sum of the weights, less the query's own where that is masked.
    scratch
        Two (B, rows, n) for temporaries.
    selves
        View (B, rows) of the entries at which queries meet themselves in the first of them; None if they never do.
    """

    targets: torch.Tensor
    distances: torch.Tensor
    weights: torch.Tensor | None
    count: torch.Tensor
    scratch: tuple[torch.Tensor, torch.Tensor]
    selves: torch.Tensor | None


def _side(problem: Problem, part: slice, rows: slice, distances: torch.Tensor, mask_self: bool) -> Side:
    targets, repels = problem.targets[:, part], part.start is None
    weights = None if problem.weights is None else problem.weights[:, None, part]
    count = targets.new_full((1, 1, 1), targets.shape[1]) if weights is None else weights.sum(-1, keepdim=True)
    first, second = (problem.distances.scratch(number, rows)[..., part] for number in (0, 1))
    selves = problem.distances.selves(first, rows.start) if repels else None
    left_out = mask_self if repels else problem.distances.first_twin is not None
    return Side(targets, distances[..., part], weights, count - float(left_out), (first, second), selves)


@dataclass(frozen=True)
class MeanShift:
    """Where the kernel-weighted mean of the targets lies from every query.

    Attributes
    ----------
    vectors
        (B, rows, D).
    log_mean
        (B, rows) natural logarithm of the mean of k# (``sharp``, ``logkde``); 0 without targets.
    effective_sizes
        (B, rows).
    """

    vectors: torch.Tensor
    log_mean: torch.Tensor
    effective_sizes: torch.Tensor


def mean_shift(side: Side, queries: torch.Tensor, temperature: float, options: DriftOptions) -> MeanShift:
    """sum_j w_j k(r_j) (y_j - x) g(r_j) over a normaliser.

    =============  ====================  ==========================================================================
    field          g                     normaliser
    =============  ====================  ==========================================================================
    mmd            1                     sum_j w_j, without the query's own where it is masked
    score          1 / (tau r), Laplace  sum_j w_j k: the field is the gradient of log sum_j w_j k (arXiv 2605.10727)
    sharp, logkde  1                     sum_j w_j k#: the gradient of log sum_j w_j k# (arXiv 2604.06333), where
                                         k# = tau (r + tau) k for Laplace, since dk#/dr = -r k
    =============  ====================  ==========================================================================

    With the Gaussian kernel k# = tau^2 k and 1/g = tau^2, so `score` is `sharp`.
    """
    field, kernel = options.field, options.kernel
    log_affinity = log2_kernel(side.distances, temperature, kernel, side.scratch[0])
    # A common factor of a query's affinities cancels, except without a normaliser made of them.
    top = log_affinity.amax(-1, keepdim=True) if field != "mmd" else torch.zeros_like(log_affinity[..., :1])
    affinity = log_affinity.sub_(top).exp2_()
    if side.weights is not None:
        affinity.mul_(side.weights)
    total = affinity.sum(-1, keepdim=True)
    sizes = effective_sizes(affinity, total)
    normaliser, log_mean = side.count.clamp(min=1.0), torch.zeros_like(top)
    if field in ("sharp", "logkde"):
        normaliser = temperature**2 * total
        if kernel == "laplace":
            moment = torch.mul(affinity, side.distances, out=side.scratch[1]).sum(-1, keepdim=True)
            normaliser = normaliser + temperature * moment
        mean = torch.log(normaliser / side.count.clamp(min=TINY)) + top * math.log(2.0)
        log_mean = torch.where(side.count > 0, mean, 0.0)
    elif field == "score":
        if kernel == "laplace":
            affinity.div_(side.distances)
            if side.selves is not None:
                side.selves.zero_()  # there is no direction to itself, and 1 / r would amplify its round-off
        normaliser = total * (temperature if kernel == "laplace" else temperature**2)
    # Dividing sums, not all coefficients, by the normaliser.
    shift = affinity @ side.targets - affinity.sum(-1, keepdim=True) * queries
    return MeanShift(shift / normaliser, log_mean[..., 0], sizes)


def effective_sizes(affinity: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """(sum A)^2 / sum A^2 along the last dimension; `total` is the sum, with that dimension."""
    length: torch.Tensor = torch.linalg.vector_norm(affinity, dim=-1)
    return (total[..., 0] / length.clamp(min=TINY)).square()
