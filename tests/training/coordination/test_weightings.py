"""Weights from Gramians: closed forms for two objectives, an independent library, and what each weighting promises."""

import math

import pytest
import torch

from gdmunet.training.coordination.weightings import WEIGHTINGS, WeightingOptions, cosines_of
from gdmunet.training.coordination.weights import weights_of

OPTIONS = WeightingOptions(weight=0.7, beta=0.3, radius=0.4, kappa=0.6)
# The order of the objectives has no meaning to these.
SYMMETRIC = ["mgda", "imtl_g", "config", "nash", "cagrad", "aligned"]
# The result of these is never against one of the gradients.
WITHOUT_CONFLICT = ["mgda", "config", "nash"]


def jacobian(count: int, seed: int, *, spread: float = 0.5, length: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, length, dtype=torch.float64, generator=generator)
    return rows * 10 ** (spread * torch.randn(count, 1, dtype=torch.float64, generator=generator))


def direction(name: str, rows: torch.Tensor, options: WeightingOptions = OPTIONS) -> torch.Tensor:
    return WEIGHTINGS[name].weigh(rows @ rows.T, options) @ rows


def pairs() -> list[torch.Tensor]:
    """Two gradients: random ones, and pairs with cosines from nearly opposite to nearly equal."""
    made = [
        torch.tensor([[1, 0], [ratio * cosine, ratio * math.sqrt(1 - cosine**2)]]).double()
        for cosine in (-0.99, -0.5, 0.0, 0.3, 0.95)
        for ratio in (0.1, 1.0, 20.0)
    ]
    return [jacobian(2, seed) for seed in range(5)] + made


def closed_form(name: str, g1: torch.Tensor, g2: torch.Tensor) -> torch.Tensor:
    """Two objectives, written on the gradients themselves."""
    a, b, c = g1 @ g1, g2 @ g2, g1 @ g2
    n1, n2 = a.sqrt(), b.sqrt()
    u1, u2 = g1 / n1, g2 / n2
    if name == "sum":
        return g1 + 0.7 * g2
    if name == "mgda":
        share = ((b - c) / (a + b - 2 * c)).clamp(0, 1)
        return share * g1 + (1 - share) * g2
    if name == "pcgrad":
        return g1 - (c / b) * g2 + g2 - (c / a) * g1 if c < 0 else g1 + g2
    if name == "imtl_g":
        return (n2 * g1 + n1 * g2) / (n1 + n2)
    if name == "config":
        u = (u1 + u2) / (u1 + u2).norm()
        return (g1 @ u + g2 @ u) * u
    if name == "nash":
        return (u1 + u2) / (1 + u1 @ u2).sqrt()
    if name == "adaptive":
        return g1 + 0.3 * (n1 / (n2 + 1e-4)).clamp(0, 1e4) * g2
    if name == "calibrated":
        return g1 + 0.6 * (n1 / n2) * g2
    mean = (g1 + g2) / 2
    if name == "cagrad":
        shares = torch.linspace(0, 1, 40_001, dtype=torch.float64).unsqueeze(1)
        mixed = shares * g1 + (1 - shares) * g2
        best = mixed[(mixed @ mean + 0.4 * mean.norm() * mixed.norm(dim=1)).argmin()]
        return mean + 0.4 * mean.norm() / best.norm() * best
    assert name == "aligned"
    rows = torch.stack([g1, g2])
    left, lengths, right = torch.linalg.svd(rows, full_matrices=False)
    return (left * lengths.min() @ right).mean(0)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_two_objectives_follow_the_closed_form(name):
    for rows in pairs():
        expected = closed_form(name, *rows)
        tolerance = 2e-4 if name == "cagrad" else 1e-8  # a grid
        assert (direction(name, rows) - expected).norm() <= tolerance * expected.norm() + 1e-12


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("name", ["imtl_g", "config", "aligned", "cagrad"])
def test_weightings_agree_with_torchjd(name, count):
    aggregation = pytest.importorskip("torchjd.aggregation", reason="compares with torchjd: pip install torchjd")
    makers = {
        "imtl_g": aggregation.IMTLG,
        "config": aggregation.ConFIG,
        "aligned": aggregation.AlignedMTL,
        "cagrad": lambda: aggregation.CAGrad(0.4),
    }
    try:
        reference = makers[name]()
    except ImportError as error:
        pytest.skip(str(error))
    tolerance = 2e-4 if name == "cagrad" else 1e-9  # the conic solver of the reference stops early
    for seed in range(3):
        rows = jacobian(count, seed)
        expected = reference(rows)
        assert (direction(name, rows) - expected).norm() < tolerance * expected.norm()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_mgda_is_what_the_frank_wolfe_steps_of_torchjd_go_to(count):
    aggregation = pytest.importorskip("torchjd.aggregation", reason="compares with torchjd: pip install torchjd")
    for seed in range(3):
        rows = jacobian(count, seed, length=40)
        expected, found = aggregation.MGDA(1e-9, 1500)(rows), direction("mgda", rows)
        assert found.norm() <= expected.norm() * (1 + 1e-9)
        assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [2, 3, 5])
def test_nash_agrees_with_torchjd_where_its_solver_arrives(count):
    aggregation = pytest.importorskip("torchjd.aggregation", reason="compares with torchjd: pip install torchjd")
    compared = 0
    for seed in range(4):
        rows = jacobian(count, seed, spread=0.1, length=40)
        try:
            reference = aggregation.NashMTL(count, max_norm=0, optim_niter=60)
        except ImportError as error:
            pytest.skip(str(error))
        expected = reference(rows)
        weights = torch.linalg.lstsq(rows.T, expected).solution
        bargains = weights * (rows @ expected)
        if bargains.std() > 1e-3 * bargains.mean():
            continue  # no solution of its own equation
        found = direction("nash", rows)
        # The reference divides the Gramian by its norm first: another length.
        torch.testing.assert_close(found / found.norm(), expected / expected.norm(), rtol=0, atol=1e-3)
        compared += 1
    assert compared >= 1


@pytest.mark.parametrize("count", [2, 3])
def test_pcgrad_is_one_of_the_orders_of_torchjd(count):
    aggregation = pytest.importorskip("torchjd.aggregation", reason="compares with torchjd: pip install torchjd")
    rows = jacobian(count, 1, length=count)
    rows[1] -= 2 * rows[0]
    found = direction("pcgrad", rows)
    conflicts = rows @ rows.T < 0
    assert conflicts.any()
    torch.manual_seed(0)
    assert any(torch.allclose(found, aggregation.PCGrad()(rows)) for _ in range(60))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_the_order_of_the_objectives_does_not_matter(name):
    for count in (2, 3, 5):
        rows = jacobian(count, count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(direction(name, rows[order]), direction(name, rows), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_CONFLICT)
def test_the_result_is_against_no_gradient(name):
    for seed in range(10):
        for count in (2, 3, 5):
            rows = jacobian(count, seed, length=count + 1)
            found = direction(name, rows)
            assert (rows @ found >= -1e-6 * rows.norm(dim=1) * found.norm()).all()


def test_pcgrad_of_two_is_against_neither():
    for seed in range(10):
        rows = jacobian(2, seed, length=2)
        assert (rows @ direction("pcgrad", rows) >= -1e-12).all()


def test_mgda_is_the_shortest_of_all_convex_combinations():
    generator = torch.Generator().manual_seed(0)
    for count in (2, 3, 6):
        rows = jacobian(count, count)
        weights = WEIGHTINGS["mgda"].weigh(rows @ rows.T, OPTIONS)
        assert (weights >= 0).all()
        assert abs(weights.sum() - 1) < 1e-12
        shortest = weights @ rows
        others = torch.rand(2000, count, dtype=torch.float64, generator=generator) ** 4
        others = others / others.sum(1, keepdim=True)
        assert ((others @ rows).norm(dim=1) >= shortest.norm() * (1 - 1e-9)).all()
        # First-order condition: every vertex lies beyond the plane through the shortest point.
        assert (rows @ shortest >= shortest @ shortest * (1 - 1e-9)).all()


def test_nash_solves_its_equation():
    for count in (2, 3, 6):
        rows = jacobian(count, count, spread=2.0)
        products = rows @ rows.T
        weights = WEIGHTINGS["nash"].weigh(products, OPTIONS)
        assert (weights > 0).all()
        torch.testing.assert_close(products @ weights * weights, torch.ones(count, dtype=torch.float64))


def test_imtl_g_and_config_have_equal_projections_and_aligned_equal_components():
    rows = jacobian(4, 0)
    units = rows / rows.norm(dim=1, keepdim=True)
    for name in ("imtl_g", "config"):
        projections = units @ direction(name, rows)
        torch.testing.assert_close(projections, projections[:1].expand(4))
    smallest = torch.linalg.eigvalsh(rows @ rows.T)[0].sqrt()
    torch.testing.assert_close(direction("aligned", rows).norm() * 2, smallest)  # four orthogonal parts of that length


def test_cagrad_lies_on_its_ball_and_improves_the_worst():
    rows = jacobian(3, 2)
    mean, found = rows.mean(0), direction("cagrad", rows)
    torch.testing.assert_close((found - mean).norm(), 0.4 * mean.norm())
    assert (rows @ found).min() > (rows @ mean).min()
    torch.testing.assert_close(direction("cagrad", rows, WeightingOptions(radius=0.0)), mean)


@pytest.mark.parametrize(("name", "power"), [(name, 0 if name == "nash" else 1) for name in WEIGHTINGS])
def test_the_result_scales_with_the_gradients(name, power):
    rows = jacobian(3, 4)
    if name == "adaptive":
        rows = rows * 1e3  # its rule has an absolute 1e-4
    for factor in (1e-1, 1e3):
        expected = direction(name, rows) * factor**power
        torch.testing.assert_close(direction(name, rows * factor), expected, rtol=1e-5, atol=1e-7 * factor)


@pytest.mark.parametrize("name", ["config", "nash"])
def test_the_direction_ignores_the_lengths(name):
    rows = jacobian(3, 5)
    scaled = rows * torch.tensor([[1.0], [50.0], [0.02]])
    cosine = torch.cosine_similarity(direction(name, rows), direction(name, scaled), dim=0)
    assert cosine > 1 - 1e-9


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_degenerate_gramians_give_finite_weights(name, count):
    row = torch.randn(1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    equal = row.expand(count, -1)
    opposite = torch.cat([row, -row, 3 * row])[:count]
    for rows in (equal, opposite, equal * torch.logspace(-12, 12, count, dtype=torch.float64).unsqueeze(1)):
        weights = WEIGHTINGS[name].weigh(rows @ rows.T, OPTIONS)
        assert weights.shape == (count,)
        assert weights.isfinite().all()


@pytest.mark.parametrize("name", ["mgda", "config", "nash", "imtl_g"])
def test_opposite_gradients_of_equal_length_stop(name):
    row = jacobian(1, 0)
    assert direction(name, torch.cat([row, -row])).norm() < 1e-6 * row.norm()


def test_cosines():
    products = torch.tensor([[4.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 0.0]]).double()
    expected = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    torch.testing.assert_close(cosines_of(products), expected)


@pytest.mark.parametrize("normalise", ["none", "l2"])
@pytest.mark.parametrize("name", [name for name, one in WEIGHTINGS.items() if one.elementwise])
def test_elementwise_weightings_take_many_gramians_at_once(name, normalise):
    rows = [jacobian(3, seed) for seed in range(4)]
    rows[1][0] = 0
    rows[2][:] = 0
    rows[3][1] = torch.inf
    products = torch.stack([one @ one.T for one in rows])
    found = weights_of(products, name, normalise, OPTIONS)
    for one, weights in zip(products, found, strict=True):
        torch.testing.assert_close(weights, weights_of(one, name, normalise, OPTIONS), equal_nan=True)
    assert (found[2] == 0).all()
    assert found[3].isnan().all()
    assert found[:2].isfinite().all()
