"""Gradients of several objectives become one direction in the output space."""

import socket
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.multiprocessing as multiprocessing

from gdmunet.errors import GdmError
from gdmunet.paths import StartedProcess
from gdmunet.training import distributed
from gdmunet.training.coordination import coordinator as coordination
from gdmunet.training.coordination.coordinator import Coordinator, coordinate, gramian, output_gradient
from gdmunet.training.coordination.weightings import WEIGHTINGS, WeightingName, WeightingOptions
from gdmunet.training.coordination.weights import weights_of

# Of these the weights follow every gradient; `calibrated` is a constant, for gradients as they are.
NORMALISED = [name for name in WEIGHTINGS if name != "calibrated"]
PAGE = Path(__file__).parents[3] / "documentation" / "explanation" / "coordination.md"


def gradients(count: int = 2, samples: int = 2, *, seed: int = 0, ratio: float = 10.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, 1, 6, 6, 6)
    common = torch.randn(shape, generator=generator)
    return [
        (torch.randn(shape, generator=generator) + 0.3 * (-1) ** i * common) * ratio**i * 1e-3 for i in range(count)
    ]


def ball(samples: int = 2) -> torch.Tensor:
    mask = torch.zeros(samples, 1, 6, 6, 6)
    mask[:, :, 1:5, 1:5, 1:4] = 1
    return mask


def norm(tensor: torch.Tensor) -> float:
    return float(tensor.double().norm())


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_without_normalisation_the_weights_are_those_of_the_gramian(name):
    ours = gradients(3)
    rows = torch.stack([one.flatten() for one in ours]).double()
    expected = WEIGHTINGS[name].weigh(rows @ rows.T, WeightingOptions()) @ rows
    if name == "mgda":
        expected = expected * rows[0].norm() / expected.norm()
    found = coordinate(ours, name, "none")
    assert found.shape == ours[0].shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten().double(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", NORMALISED)
def test_normalised_gradients_count_by_direction_alone(name):
    first, second = gradients(2)
    found = coordinate([first, second], name, "l2")
    torch.testing.assert_close(coordinate([first, second * 1e3], name, "l2"), found, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(coordinate([first * 8, second], name, "l2"), found * 8, rtol=1e-4, atol=1e-8)


def test_mgda_on_normalised_gradients_is_as_long_as_the_first():
    first, second = gradients(2)
    found = coordinate([first, second], "mgda", "l2")
    # Between unit vectors the shortest point is the middle.
    middle = first / norm(first) + second / norm(second)
    torch.testing.assert_close(found, middle / norm(middle) * norm(first), rtol=1e-4, atol=1e-8)
    assert norm(found) == pytest.approx(norm(first), rel=1e-5)


def test_raw_mgda_follows_the_shorter_gradient_and_is_as_long_as_the_first():
    first, second = gradients(2, ratio=100.0)
    for given in ([first, second], [second, first]):
        found = coordinate(given, "mgda", "none")
        assert torch.cosine_similarity(found.flatten(), first.flatten(), dim=0) > 0.95
        assert torch.cosine_similarity(found.flatten(), second.flatten(), dim=0) < 0.05
        assert norm(found) == pytest.approx(norm(given[0]), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "normalise"), [*((name, "none") for name in WEIGHTINGS), *((name, "l2") for name in NORMALISED)]
)
def test_zero_gradients_have_no_say_and_give_no_nan(name, normalise):
    first, second, third = gradients(3)
    nothing = torch.zeros_like(first)
    for given in ([nothing, nothing], [nothing]):
        assert coordinate(given, name, normalise).abs().max() == 0
    for given in ([first, nothing], [nothing, second], [first, nothing, third]):
        assert coordinate(given, name, normalise).isfinite().all()
    alone = coordinate([first], name, normalise)
    torch.testing.assert_close(coordinate([first, nothing], name, normalise), alone)
    if name not in ("nash", "cagrad"):  # their lengths are their own
        torch.testing.assert_close(alone, first)
    if name not in ("sum", "adaptive", "calibrated"):
        pair = coordinate([first, third], name, normalise)
        torch.testing.assert_close(coordinate([first, nothing, third], name, normalise), pair)
        torch.testing.assert_close(
            coordinate([nothing, second], name, normalise), coordinate([second], name, normalise)
        )


@pytest.mark.parametrize("name", NORMALISED)
def test_a_gradient_that_is_not_finite_makes_the_step_not_finite(name):
    first, second = gradients(2)
    second[0, 0, 0, 0, 0] = float("inf")
    assert coordinate([first, second], name, "l2").isnan().all()


@pytest.mark.parametrize("name", NORMALISED)
def test_the_mask_restricts_gradients_and_result(name):
    first, second = gradients(2)
    mask = ball()
    found = coordinate([first, second], name, "l2", mask=mask)
    assert (found[mask == 0] == 0).all()
    torch.testing.assert_close(found, coordinate([first * mask, second * mask], name, "l2"))
    noise = gradients(seed=5)[0] * 1e5 * (1 - mask)
    torch.testing.assert_close(coordinate([first, second + noise], name, "l2", mask=mask), found)


@pytest.mark.parametrize("name", NORMALISED)
def test_per_sample_equals_a_loop_over_samples(name):
    given = gradients(3, samples=3)
    given[1][2] = 0  # one sample without drift
    mask = ball(3)
    found = coordinate(given, name, "l2", per_sample=True, mask=mask)
    for sample in range(3):
        alone = coordinate([one[sample : sample + 1] for one in given], name, "l2", mask=mask[sample : sample + 1])
        torch.testing.assert_close(found[sample : sample + 1], alone)


@pytest.mark.parametrize("per_sample", [False, True])
def test_all_gradients_but_the_first_count_for_the_steps_that_they_stand_for(per_sample):
    gradients = [torch.randn(2, 1, 4, 4) for _ in range(3)]
    once, thrice = (
        Coordinator("sum", "none", per_sample=per_sample, every=every).combine(gradients) for every in (1, 3)
    )
    assert torch.allclose(thrice.direction - gradients[0], 3 * (once.direction - gradients[0]), atol=1e-5)
    with pytest.raises(GdmError, match="less than their own step"):
        Coordinator("sum", "none", every=0)


def test_the_gramian_is_that_of_the_flattened_gradients():
    given = gradients(3, samples=2)
    rows = torch.stack([one.flatten() for one in given]).double()
    torch.testing.assert_close(gramian(given), rows @ rows.T, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(gramian(given, per_sample=True).sum(0), gramian(given))
    inside = torch.stack([(one * ball()).flatten() for one in given]).double()
    torch.testing.assert_close(gramian(given, ball()), inside @ inside.T, rtol=1e-5, atol=1e-9)


def test_half_precision_gradients_are_multiplied_in_float32():
    ones = torch.full((1, 1, 40, 40, 40), 2.0, dtype=torch.float16)
    assert float(gramian([ones])[0, 0]) == 4 * 64_000  # no half-precision number
    assert coordinate([ones, ones], "mgda", "l2").dtype == torch.float16


def test_the_journal_sees_norms_cosine_weights_and_shares():
    first, second = gradients(2)
    found = Coordinator("mgda", "l2").combine([first, second])
    torch.testing.assert_close(found.norms, torch.tensor([norm(first), norm(second)]).double(), rtol=1e-5, atol=0)
    cosine = float(torch.cosine_similarity(first.flatten(), second.flatten(), dim=0))
    assert found.cosine == pytest.approx(cosine, abs=1e-5)
    torch.testing.assert_close(found.shares, torch.tensor([0.5, 0.5]).double())
    combined = found.weights[0] * first.double() + found.weights[1] * second.double()
    torch.testing.assert_close(found.direction.double(), combined, rtol=1e-4, atol=1e-8)
    by_sample = Coordinator("mgda", "l2", per_sample=True).combine([first, second])
    assert by_sample.weights.shape == by_sample.norms.shape == (2, 2)
    assert by_sample.shares.shape == (2,)


def test_an_average_without_past_is_none():
    for seed in range(3):
        given = gradients(seed=seed)
        found = Coordinator("mgda", "l2", gramian_ema=0.0).combine(given).direction
        torch.testing.assert_close(found, coordinate(given, "mgda", "l2"))


def test_the_average_starts_at_the_first_step_and_is_the_weighted_mean_of_all():
    coordinator = Coordinator("mgda", "none", gramian_ema=0.8)
    steps = [gradients(seed=seed, ratio=1.5) for seed in range(3)]
    torch.testing.assert_close(coordinator.combine(steps[0]).direction, coordinate(steps[0], "mgda", "none"))
    coordinator.combine(steps[1])
    found = coordinator.combine(steps[2])
    past = torch.tensor([0.64, 0.8, 1.0]).double()
    mean = sum(w * gramian(step) for w, step in zip(past / past.sum(), steps, strict=True))
    expected = weights_of(mean, "mgda", "none", WeightingOptions())
    torch.testing.assert_close(found.weights, expected)
    torch.testing.assert_close(found.norms, gramian(steps[2]).diagonal().sqrt())


def test_a_step_that_is_not_finite_does_not_enter_the_average():
    one, other = Coordinator("mgda", "l2", gramian_ema=0.9), Coordinator("mgda", "l2", gramian_ema=0.9)
    broken = [torch.full_like(gradients()[0], float("nan"))] * 2
    one.combine(gradients(seed=1))
    one.combine(broken)
    other.combine(gradients(seed=1))
    assert torch.equal(one.combine(gradients(seed=2)).direction, other.combine(gradients(seed=2)).direction)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_resuming_is_exact(decay, tmp_path):
    uninterrupted, first = Coordinator("mgda", "l2", gramian_ema=decay), Coordinator("mgda", "l2", gramian_ema=decay)
    for coordinator in (uninterrupted, first):
        coordinator.combine(gradients(seed=1))
    torch.save(first.state(), tmp_path / "state.pt")
    resumed = Coordinator("mgda", "l2", gramian_ema=decay)
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    given = gradients(seed=2)
    assert torch.equal(resumed.combine(given).direction, uninterrupted.combine(given).direction)


def test_a_calibrated_weight_is_measured_first_and_then_frozen():
    options = WeightingOptions(kappa=0.5, calibration_steps=3)
    coordinator, ratios = Coordinator("calibrated", "none", options=options), []
    for seed in range(3):
        first, second = gradients(seed=seed, ratio=10.0 ** (seed - 1))
        ratios.append(norm(first) / norm(second))
        found = coordinator.combine([first, second])
        assert found.weights.tolist() == pytest.approx([1.0, 0.5 * sum(ratios) / len(ratios)], rel=1e-5)
    frozen = found.weights
    for factor in (1e-3, 1.0, 1e3):
        first, second = gradients(seed=7)
        found = coordinator.combine([first, second * factor])
        assert torch.equal(found.weights, frozen)
        # The weight is constant, so the part of a force that fades does too.
        expected = first.double() + frozen[1] * factor * second.double()
        torch.testing.assert_close(found.direction.double(), expected, rtol=1e-4, atol=1e-8)


def test_a_calibrated_weight_counts_the_distance_that_is_left_at_first():
    """A force that begins at a tenth of the full distance has a tenth of the strength, however long its gradient is."""
    options = WeightingOptions(kappa=2.0, calibration_steps=2)
    for left, length in ((1.0, 1.0), (0.1, 1.0), (0.1, 100.0)):
        coordinator = Coordinator("calibrated", "none", options=options)
        first, second = gradients(seed=1)
        second = second * length
        found = coordinator.combine([first, second], reach=torch.tensor([1.0, left]))
        assert (found.weights * found.norms)[1].item() == pytest.approx(2.0 * left * norm(first), rel=1e-5)
        coordinator.combine([first, second], reach=torch.tensor([1.0, left]))
        # Measured: a distance that shrinks later changes no weight.
        later = coordinator.combine([first, second], reach=torch.tensor([1.0, left / 10]))
        assert torch.equal(later.weights, found.weights)


def test_a_step_without_drift_or_a_broken_one_is_not_measured():
    options = WeightingOptions(calibration_steps=2)
    plain, other = (Coordinator("calibrated", "none", options=options) for _ in range(2))
    nothing, broken = torch.zeros_like(gradients()[0]), torch.full_like(gradients()[0], float("nan"))
    for extra in ([gradients()[0], nothing], [gradients()[0], broken], [broken, gradients()[1]]):
        other.combine(extra)
    for seed in range(3):
        given = gradients(seed=seed)
        assert torch.equal(plain.combine(given).weights, other.combine(given).weights)


def test_a_calibrated_weight_is_resumed(tmp_path):
    options = WeightingOptions(calibration_steps=2)
    uninterrupted, first = (Coordinator("calibrated", "none", options=options) for _ in range(2))
    for steps in (1, 3):  # while it is measured, and after
        for seed in range(steps):
            uninterrupted.combine(gradients(seed=seed))
            first.combine(gradients(seed=seed))
        torch.save(first.state(), tmp_path / "state.pt")
        first = Coordinator("calibrated", "none", options=options)
        first.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        given = gradients(seed=9, ratio=3.0)
        assert torch.equal(first.combine(given).direction, uninterrupted.combine(given).direction)


@pytest.mark.parametrize("scale", [1.0, 2.0**14])
def test_the_step_is_the_same_at_every_loss_scale(scale):
    def weight_gradient(loss_scale: float) -> torch.Tensor:
        torch.manual_seed(0)
        network = torch.nn.Conv3d(1, 1, 3, padding=1)
        target = torch.randn(2, 1, 6, 6, 6)
        output = network(torch.randn(2, 1, 6, 6, 6))
        leaf = output.detach().requires_grad_()
        losses = ((leaf - target).abs().mean(), torch.nn.functional.avg_pool3d(leaf, 2).square().mean())
        direction = coordinate([output_gradient(loss, leaf, loss_scale=loss_scale) for loss in losses], "mgda", "l2")
        output.backward(gradient=direction * loss_scale)
        return network.weight.grad / loss_scale

    torch.testing.assert_close(weight_gradient(scale), weight_gradient(1.0))


def test_a_sum_of_unscaled_gradients_is_ordinary_training():
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 1, 3, padding=1)
    condition, target = torch.randn(2, 2, 1, 6, 6, 6)
    output = network(condition)
    ((output - target).abs().mean() + output.square().mean()).backward()
    expected = network.weight.grad.clone()
    network.weight.grad = None
    for part in range(2):  # accumulated over two halves
        output = network(condition[part : part + 1])
        leaf = output.detach().requires_grad_()
        losses = ((leaf - target[part : part + 1]).abs().mean(), leaf.square().mean())
        direction = coordinate([output_gradient(loss, leaf) for loss in losses], "sum", "none")
        output.backward(gradient=direction / 2)
    torch.testing.assert_close(network.weight.grad, expected)


def test_a_loss_without_the_output_has_a_zero_gradient():
    leaf = torch.ones(1, 1, 2, 2, requires_grad=True)
    for loss in (torch.tensor(3.0), torch.ones((), requires_grad=True) * 2):
        assert torch.equal(output_gradient(loss, leaf), torch.zeros_like(leaf))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_ranks_have_the_weights_of_the_whole_batch(name, monkeypatch):
    """Losses are means over the rank's half, so its gradients are twice those of the whole batch."""
    whole = gradients(3, samples=4)
    expected = coordinate(whole, name, "none")
    halves = [[2 * one[:2] for one in whole], [2 * one[2:] for one in whole]]
    total = sum(gramian(half) for half in halves)
    monkeypatch.setattr(coordination, "world_size", lambda: 2)
    monkeypatch.setattr(coordination, "sum_over_ranks", lambda _: total)
    for half, part in zip(halves, expected.split(2), strict=True):
        torch.testing.assert_close(coordinate(half, name, "none") / 2, part, rtol=1e-4, atol=1e-8)


def coordinate_on_a_rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    with distributed.member(StartedProcess("torchrun", rank, 2, rank, "127.0.0.1", port), "cpu"):
        half = [2 * one[2 * rank : 2 * rank + 2] for one in gradients(2, samples=4)]
        mask = ball(4)[2 * rank : 2 * rank + 2]
        coordinator = Coordinator("mgda", "l2", gramian_ema=0.5)
        found = coordinator.combine(half, mask)
        torch.save((found.direction / 2, found.weights, found.norms), f"{folder}/{rank}.pt")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    multiprocessing.spawn(coordinate_on_a_rank, args=(port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    one = Coordinator("mgda", "l2").combine(gradients(2, samples=4), ball(4))
    assert torch.equal(ranks[0][1], ranks[1][1])
    torch.testing.assert_close(torch.cat([found[0] for found in ranks]), one.direction, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(ranks[0][1], one.weights, rtol=1e-5, atol=0)
    torch.testing.assert_close(ranks[0][2], one.norms, rtol=1e-5, atol=0)


def test_wrong_use_is_named():
    first, second = gradients(2)
    with pytest.raises(GdmError, match="weighting"):
        coordinate([first], "mgdda", "l2")
    with pytest.raises(GdmError, match="normalisation"):
        coordinate([first], "mgda", "l1")
    for wrong, mask in (([], None), ([first, second[:1]], None), ([first], ball(3)), ([first], ball()[0])):
        with pytest.raises(GdmError, match="one shape"):
            coordinate(wrong, "mgda", "l2", mask=mask)
    with pytest.raises(GdmError, match="averaged"):
        Coordinator("mgda", "l2", gramian_ema=0.9, per_sample=True)
    for normalise, per_sample in (("l2", False), ("none", True)):
        with pytest.raises(GdmError, match="one constant"):
            Coordinator("calibrated", normalise, per_sample=per_sample)
    with pytest.raises(GdmError, match="calibration_steps 0"):
        Coordinator("calibrated", "none", options=WeightingOptions(calibration_steps=0))
    calibrated = Coordinator("calibrated", "none")
    calibrated.combine([first, second])
    with pytest.raises(GdmError, match="number of gradients"):
        calibrated.combine([first])
    averaging = Coordinator("mgda", "l2", gramian_ema=0.9)
    averaging.combine([first, second])
    with pytest.raises(GdmError, match="number of gradients"):
        averaging.combine([first])


def test_the_documentation_has_the_table_of_weightings():
    rows = [f"| `{name}` | {one.direction} | {one.purpose} |" for name, one in WEIGHTINGS.items()]
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] == rows


def test_every_weighting_can_be_chosen_by_a_trainer():
    assert tuple(WEIGHTINGS) == get_args(WeightingName)


def test_losses_that_share_a_graph_have_their_gradients_one_after_the_other():
    leaf = torch.ones(1, 1, 2, 2, dtype=torch.float16, requires_grad=True)
    shared = leaf.float().square()
    losses = (shared.sum(), 3 * shared.sum())
    found = [output_gradient(losses[0], leaf, keep_graph=True), output_gradient(losses[1], leaf)]
    assert all(gradient.dtype == torch.float32 for gradient in found)
    assert torch.equal(found[1], 3 * found[0])


def test_the_example_of_the_documentation_runs():
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert isinstance(names["direction"], torch.Tensor)
