"""What must hold for any drift: symmetries, equilibrium, potentials, extreme inputs, bounded memory."""

import numpy as np
import pytest
import torch

from gdmunet.errors import GdmError
from gdmunet.training.drift import kernels as drift_kernels
from gdmunet.training.drift.fields import Problem, balance, find_force
from gdmunet.training.drift.kernels import Distances
from gdmunet.training.drift.loss import drift_loss
from gdmunet.training.drift.options import DriftOptions
from gdmunet.training.drift.ranks import RankGroup

FIELDS = ("official", "sharp", "logkde", "score", "sinkhorn", "mmd")
KERNELS = ("laplace", "gaussian")


def points(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def posed(queries, repelling, positives, unit=3.0, first_self=None):
    """A problem in float64 with a given unit of length, its queries among what repels from `first_self` on."""
    targets = torch.cat([repelling, positives], dim=1)
    # A diagonal that starts right of the matrix is empty.
    start = targets.shape[1] if first_self is None else first_self
    distances = Distances(queries, targets, start, 2**20)
    distances.normalise(torch.full((len(queries),), unit, dtype=torch.float64), mask_self=True)
    repels = repelling.shape[1]
    return Problem(queries, targets, None, repels, repels, queries.shape[1], distances, RankGroup(False), 1)


def force(queries, repelling, positives, field, temperature=0.3, kernel="laplace", **more):
    options = DriftOptions(field=field, kernel=kernel, affinity_floor=1e-6, mask_self=False)
    return find_force(posed(queries, repelling, positives, **more), temperature, options).vectors


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", FIELDS)
def test_swapping_positives_and_negatives_turns_the_field_round(field, kernel):
    x, y, z = points(0, 1, 6, 3), points(1, 1, 8, 3) + 1, points(2, 1, 8, 3) - 1
    there, back = force(x, z, y, field, kernel=kernel), force(x, y, z, field, kernel=kernel)
    assert there.abs().max() > 1e-3
    torch.testing.assert_close(there, -back)


@pytest.mark.parametrize("field", FIELDS)
def test_equal_positives_and_negatives_exert_no_force(field):
    x, y = points(0, 1, 6, 3), points(1, 1, 8, 3)
    assert force(x, y, y, field).abs().max() < 1e-12


@pytest.mark.parametrize("field", FIELDS)
def test_coefficients_add_up_to_zero(field):
    """Moving targets (and queries, where these have coefficients) in the sums alone, not in the distances."""
    x, y = points(0, 1, 6, 3), points(1, 1, 8, 3) + 1
    problem = posed(x, x, y, first_self=0)
    options = DriftOptions(field=field, affinity_floor=1e-6, sinkhorn_iterations=1)
    before = find_force(problem, 0.3, options).vectors
    queries = x if field in ("official", "sinkhorn") else x + 10
    moved = Problem(queries, problem.targets + 10, None, 6, 6, 6, problem.distances, problem.ranks, 1)
    torch.testing.assert_close(find_force(moved, 0.3, options).vectors, before)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", FIELDS)
class TestSymmetries:
    def start(self, field, kernel):
        self.x, self.y = points(3, 1, 12, 4).float(), points(4, 1, 15, 4).float() + 1
        self.options = {"field": field, "kernel": kernel, "temperatures": (0.2, 0.5)}
        return drift_loss(self.x, self.y, **self.options)

    def test_permutation(self, field, kernel):
        loss, found = self.start(field, kernel)
        order, other = torch.randperm(12), torch.randperm(15)
        permuted_loss, permuted = drift_loss(self.x[:, order], self.y[:, other], **self.options)
        torch.testing.assert_close(permuted.direction, found.direction[:, order], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(permuted_loss, loss, rtol=1e-4, atol=1e-5)

    def test_scale(self, field, kernel):
        loss, found = self.start(field, kernel)
        for factor in (128.0, 0.125):
            scaled_loss, scaled = drift_loss(self.x * factor, self.y * factor, **self.options)
            torch.testing.assert_close(scaled.scale, found.scale * factor)
            torch.testing.assert_close(scaled.direction, found.direction, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(scaled_loss, loss, rtol=1e-4, atol=1e-5)

    def test_translation(self, field, kernel):
        """By far more than the samples' own size; on a grid, so that the moved samples themselves are exact."""
        self.start(field, kernel)
        x, y = (torch.round(part * 1024) / 1024 for part in (self.x, self.y))
        loss, found = drift_loss(x, y, **self.options)
        moved_loss, moved = drift_loss(x + 1000, y + 1000, **self.options)
        torch.testing.assert_close(moved.direction, found.direction, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(moved_loss, loss, rtol=1e-3, atol=1e-4)

    def test_rotation(self, field, kernel):
        _, found = self.start(field, kernel)
        turn = torch.linalg.qr(points(5, 4, 4).float()).Q
        _, turned = drift_loss(self.x @ turn, self.y @ turn, **self.options)
        torch.testing.assert_close(turned.direction, found.direction @ turn, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("field", FIELDS)
def test_the_force_vanishes_at_equilibrium_as_the_sets_grow(field):
    def raw(count, shift):
        x, y = points(6, 1, count, 2).float(), points(7, 1, count, 2).float() + shift
        # Affinities fall like 1 / count: a floor would take their place in the large set.
        return float(drift_loss(x, y, temperatures=(0.5,), field=field, affinity_floor=0.0)[1].raw_force)

    few, many = raw(64, 0.0), raw(2048, 0.0)
    assert many < few / 8  # the variance of a mean falls like 1 / samples: 32 times
    assert many < raw(2048, 1.0) / 50


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "sets",
    [
        (points(0, 1, 1, 3), points(1, 1, 1, 3)),
        (points(0, 1, 5, 3), points(1, 1, 1, 3)),
        (points(0, 1, 1, 3), points(1, 1, 5, 3)),
        (torch.full((1, 4, 3), 7.0), torch.full((1, 6, 3), 7.0)),
        (points(2, 1, 4, 3), points(2, 1, 4, 3)),
        (torch.full((1, 4, 3), 1e4), points(2, 1, 4, 3)),
        (points(0, 1, 5, 3), torch.full((1, 6, 3), 3e3)),
    ],
    ids=["one of each", "one positive", "one generated", "all points equal", "sets equal", "far", "equal positives"],
)
def test_extreme_sets_give_finite_numbers(sets, field, kernel):
    x, y = (part.float() for part in sets)
    x.requires_grad_()
    for floor in (1e-6, 0.0):
        loss, found = drift_loss(x, y, field=field, kernel=kernel, affinity_floor=floor)
        (slope,) = torch.autograd.grad(loss.sum(), x)
        for values in (loss, slope, found.direction, found.scale, found.raw_force, found.effective_sample_size):
            assert torch.isfinite(values).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_of_logkde_is_minus_the_sharp_field(kernel):
    x, y = points(8, 1, 9, 3).float().requires_grad_(), points(9, 1, 11, 3).float() + 0.5
    loss, logkde = drift_loss(x, y, temperatures=(0.3,), field="logkde", kernel=kernel)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    _, sharp = drift_loss(x, y, temperatures=(0.3,), field="sharp", kernel=kernel)
    field = sharp.direction * sharp.raw_force.sqrt()
    torch.testing.assert_close(logkde.direction, field, rtol=1e-4, atol=1e-5)
    unit = sharp.scale / 3**0.5
    torch.testing.assert_close(slope, -field / (9 * 3 * unit), rtol=1e-4, atol=1e-5)
    # The same from the formula, by automatic differentiation in float64.
    free, fixed = x.detach().double().requires_grad_(), x.detach().double()
    expected = log_ratio(free, fixed, y.double(), float(sharp.scale), 0.3, kernel)
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-4)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, free)[0].float(), rtol=1e-4, atol=1e-5)


def log_ratio(free, fixed, y, scale, tau, kernel):
    """mean_i log mean_{j != i} k#(x_i, sg x_j) - log mean_j k#(x_i, y_j)."""

    def sharp_kernel(r):
        return (
            tau * (r + tau) * torch.exp(-r / tau) if kernel == "laplace" else tau**2 * torch.exp(-(r**2) / (2 * tau**2))
        )

    total, count = 0.0, free.shape[1]
    for i in range(count):
        others = torch.stack([fixed[0, j] for j in range(count) if j != i])
        to_others, to_real = ((free[0, i] - points_).norm(dim=-1) / scale for points_ in (others, y[0]))
        total = total + (sharp_kernel(to_others).mean().log() - sharp_kernel(to_real).mean().log()) / count
    return total


def test_the_value_of_logkde_is_a_signal_of_convergence():
    y = points(10, 1, 512, 2).float()
    values = [
        float(drift_loss(points(11, 1, 512, 2).float() + shift, y, field="logkde")[0]) for shift in (0, 0.5, 1, 2)
    ]
    assert abs(values[0]) < 0.1
    assert values == sorted(values)
    assert values[1] > 3 * abs(values[0])


@pytest.mark.parametrize(
    ("field", "conservative"), [("sharp", True), ("score", True), ("mmd", True), ("official", False)]
)
def test_gradient_fields_are_free_of_curl(field, conservative):
    """The Jacobian of one query's force by its position, all others and the unit of length held, is symmetric."""
    x, y, z = points(12, 1, 1, 3), points(13, 1, 6, 3), points(14, 1, 7, 3)
    company = points(15, 1, 4, 3)  # other queries, which the balanced fields see

    def at(position):
        return force(torch.cat([position, company], dim=1), z, y, field)[0, 0]

    step = 1e-5
    basis = torch.eye(3, dtype=torch.float64)[:, None, None] * step
    jacobian = torch.stack([(at(x + move) - at(x - move)) / (2 * step) for move in basis])
    asymmetry = (jacobian - jacobian.T).abs().max() / jacobian.abs().max()
    assert asymmetry < 1e-6 if conservative else asymmetry > 1e-3


@pytest.mark.parametrize("kernel", KERNELS)
def test_official_is_sinkhorn_with_one_iteration(kernel):
    x, y = points(16, 2, 9, 3).float(), points(17, 2, 11, 3).float() + 0.5
    loss, official = drift_loss(x, y, kernel=kernel)
    other, sinkhorn = drift_loss(x, y, kernel=kernel, field="sinkhorn", sinkhorn_iterations=1)
    assert torch.equal(loss, other)
    assert torch.equal(official.direction, sinkhorn.direction)
    _, three = drift_loss(x, y, kernel=kernel, field="sinkhorn", sinkhorn_iterations=3)
    assert not torch.allclose(three.direction, official.direction, atol=1e-2)


def test_many_iterations_balance_rows_and_columns():
    problem = posed(points(18, 1, 7, 3), points(19, 1, 5, 3), points(20, 1, 6, 3))
    rows, columns = balance(problem, 0.3, DriftOptions(field="sinkhorn", sinkhorn_iterations=60))
    ((_, distances),) = problem.distances.blocks()
    matrix = torch.exp2(distances * (-drift_kernels.LOG2_E / 0.3) + rows + columns)
    for sums in (matrix.sum(-1), matrix.sum(-2)):
        torch.testing.assert_close(sums, sums.mean() * torch.ones_like(sums), rtol=1e-6, atol=0)


def test_memory_stays_within_the_budget():
    """More pairs than the budget are never held together, in the distances kept or in temporaries."""
    x, y = points(21, 1, 64, 2), points(22, 1, 64, 2)
    distances = Distances(x, torch.cat([x, y], dim=1), 0, budget=1024)
    blocks = [(rows, block.clone()) for rows, block in distances.blocks()]
    assert [block.shape[1] for _, block in blocks] == [8] * 8
    assert len({block.data_ptr() for _, block in distances.blocks()}) == 1
    kept = Distances(x, torch.cat([x, y], dim=1), 0, budget=2**20)
    whole = torch.cat([block for _, block in kept.blocks()], dim=1)
    torch.testing.assert_close(torch.cat([block for _, block in blocks], dim=1), whole)
    torch.testing.assert_close(whole[0, :, 64:], torch.cdist(x, y)[0])


def test_the_order_of_blocks_on_a_cpu_changes_nothing(monkeypatch):
    x, y = points(23, 1, 50, 3).float(), points(24, 1, 40, 3).float()
    _, whole = drift_loss(x, y)
    monkeypatch.setattr(drift_kernels, "CACHED_ELEMENTS", 90 * 7)
    _, blocks = drift_loss(x, y)
    torch.testing.assert_close(blocks.direction, whole.direction, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("field", ["official", "sharp", "score", "sinkhorn", "mmd", "logkde"])
@pytest.mark.parametrize("masks", [{"mask_self": True, "mask_twins": True}, {"mask_self": False}])
def test_no_force_where_every_sample_equals_its_twin_and_extras_stand_on_both_sides(field, masks):
    """The balance that independent samples have on average, paired ones have exactly."""
    x, extra = points(5, 2, 24, 4), points(6, 2, 17, 4)
    _, found = drift_loss(x, torch.cat([x, extra], dim=1), extra, field=field, **masks)
    # Kept pairs: a twin's distance has the round-off of a difference of squares, that from itself is exact.
    assert found.raw_force.max() < (1e-9 if masks["mask_self"] else 1e-4)


def test_without_twins_masked_paired_samples_spread():
    """Why pairs are masked: a twin among the positives hides the attraction, and repulsion wins."""
    x = points(7, 1, 64, 4)
    radius = (x - x.mean(1, keepdim=True)).square().sum(-1)
    outward = {}
    for masked in (True, False):
        _, found = drift_loss(x, x.clone(), mask_twins=masked, normalisation="floored")
        outward[masked] = float((found.direction * (x - x.mean(1, keepdim=True))).sum(-1).div(radius).mean())
    assert abs(outward[True]) < 1e-6
    assert outward[False] > 1e-3


def test_twins_need_a_positive_each():
    with pytest.raises(GdmError, match="twin"):
        drift_loss(points(1, 1, 5, 3), points(2, 1, 4, 3), mask_twins=True)
