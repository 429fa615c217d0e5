"""Pairs that do not lie on each other: what the shifted loss and the registered fidelity make of them."""

import pytest
import torch
from misregistered import error_after, misregistered_pair
from short_trainers import batch_for, end_after, in_step, loop_of, planned_step, weights

from gdmunet.errors import GdmError
from gdmunet.network_spec import NetworkSpec
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.deformation import DeformationNetwork, DeformationSpec, bend, roughness
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.registered import GDMTrainerRegistered, RegisteredFidelityTrainer
from gdmunet.training.trainers.shifted_error import ShiftOptions, best_shifted


@pytest.fixture(scope="module")
def plain():
    """The pairs, and the error of plain L1 on them."""
    pairs = [misregistered_pair(seed, (96, 96), rms=2.0) for seed in range(3)]
    return pairs, error_after(FidelityTrainer, pairs, STEPS, edge=48)


STEPS = 300


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes"),
    [(FidelityTrainer, {"fidelity_loss": "shifted_l1"}), (RegisteredFidelityTrainer, {})],
    ids=["shifted_l1", "registered"],
)
def test_moved_targets_cost_a_tenth_less_than_with_plain_l1(plain, kind, changes):
    pairs, expected = plain
    assert error_after(kind, pairs, STEPS, edge=48, **changes) < 0.9 * expected


# ---- the shifted error ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 12, 12), (2, 1, 9, 8, 10)])
def test_a_target_that_is_shifted_costs_nothing_within_reach(shape):
    image = torch.randn(shape)
    target = image.roll(1, dims=-1)
    options = ShiftOptions((1,) * (len(shape) - 2), 4)
    chosen = best_shifted(image, target, torch.ones(shape), options)
    # The last voxel's partner lies beyond the patch.
    assert torch.equal(chosen[..., :-1], image[..., :-1])
    far = best_shifted(image, image.roll(3, dims=-1), torch.ones(shape), options)
    assert (far - image).abs().mean() > 0.3


def test_the_chosen_shift_is_that_of_a_slow_loop():
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 1, 1, 8, 8)
    mask = (torch.rand(1, 1, 8, 8) > 0.3).float()
    chosen = best_shifted(prediction, target, mask, ShiftOptions((0, 1), 4))
    for row in (0, 4):
        for column in (0, 4):
            errors = {}
            for shift in (0, -1, 1):
                places = [
                    (y, x)
                    for y in range(row, row + 4)
                    for x in range(column, column + 4)
                    if mask[0, 0, y, x] and 0 <= x + shift < 8
                ]
                distances = [abs(prediction[0, 0, y, x] - target[0, 0, y, x + shift]) for y, x in places]
                errors[shift] = float(sum(distances) / len(distances))
            best = min(errors, key=errors.get)
            for y in range(row, row + 4):
                for x in range(column, column + 4):
                    partner = x + best if 0 <= x + best < 8 else x
                    assert chosen[0, 0, y, x] == target[0, 0, y, partner]


def test_equal_errors_take_no_shift():
    target = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(best_shifted(target, target, torch.ones_like(target), ShiftOptions((1, 1), 4)), target)
    flat = best_shifted(torch.zeros_like(target), target, torch.zeros_like(target), ShiftOptions((1, 1), 4))
    assert torch.equal(flat, target)


@pytest.mark.parametrize("changes", [{"shift_voxels": 5}, {"shift_voxels": -1}, {"shift_window": 0}])
def test_a_shift_out_of_range_is_refused_before_training(toy, changes):
    kind = type("Far", (FidelityTrainer,), {"__module__": __name__, "fidelity_loss": "shifted_l1", **changes})
    with pytest.raises(GdmError, match=next(iter(changes))):
        loop_of(toy, kind)


# ---- the deformation network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 3])
def test_an_image_that_is_bent_by_whole_voxels_is_shifted(dimensions):
    image = torch.randn(2, 1, *[8] * dimensions)
    field = torch.zeros(2, dimensions, *[8] * dimensions)
    field[:, 0] = 1
    bent, inside = bend(image, field)
    torch.testing.assert_close(bent[:, :, :-1], image[:, :, 1:], atol=1e-5, rtol=0)
    assert inside[:, :, :-1].all()
    assert not inside[:, :, -1].any()
    field = torch.zeros_like(field)
    field[:, -1] = -2
    torch.testing.assert_close(bend(image, field)[0][..., 2:], image[..., :-2], atol=1e-5, rtol=0)


def test_roughness_is_the_mean_squared_slope():
    field = torch.zeros(1, 2, 4, 4)
    field[0, 0] = 3 * torch.arange(4.0)
    assert float(roughness(field)) == pytest.approx((0 + 9 / 2) / 2)


def test_a_deformation_network_starts_without_a_displacement_and_keeps_its_bound():
    network = DeformationNetwork(DeformationSpec(((2, 2, 2), (2, 2, 2), (1, 2, 2)), 4, 3.0))
    moving, fixed = torch.randn(2, 2, 1, 9, 16, 14)
    assert not network(moving, fixed).any()
    torch.nn.init.constant_(network.head.bias, 100.0)
    assert float(network(moving, fixed).detach().max()) == pytest.approx(3.0)


def test_a_known_field_is_found_between_an_image_and_itself_moved(toy):
    loop = loop_of(toy, _short(RegisteredFidelityTrainer, iterations=300), "2d")
    pair = misregistered_pair(0, (48, 48), rms=1.5)
    straight, moved = (torch.from_numpy(one / 500)[None, None].float() for one in (pair.target, pair.moved))
    batch = Batch(straight, moved, torch.ones_like(moved), ("a",))
    loop.state.iteration = 20  # past the warm-up
    trainer = in_step(loop)
    for _ in range(150):
        field = trainer._learn(batch, straight)
    bent, inside = bend(straight, field)
    before, after = (float(((one - moved).abs() * inside).mean()) for one in (straight, bent))
    assert after < 0.6 * before
    assert float(trainer.deformation.mean.abs().max()) > 0


def test_the_deformation_network_is_trained_beside_the_generator(toy):
    loop = loop_of(toy, _short(RegisteredFidelityTrainer))
    batch, before = batch_for(loop), weights(loop)
    theirs = [weight.clone() for weight in loop.trainer.deformation.parameters()]
    report = loop.train_step([batch])
    assert {"loss_fidelity", "roughness", "displacement"} <= report.keys()
    assert report["displacement"] == 0
    assert loop.train_step([batch])["displacement"] > 0
    assert any(not torch.equal(value, before[name]) for name, value in weights(loop).items())
    assert any(not torch.equal(a, b) for a, b in zip(theirs, loop.trainer.deformation.parameters(), strict=True))


def test_the_drift_is_coordinated_with_the_bent_comparison(toy):
    loop = loop_of(toy, _short(GDMTrainerRegistered, feature_start=0.0, bank_patches=2, tokens_per_patch=32,
                               minimum_tokens=2))  # fmt: skip
    report = loop.train_step([batch_for(loop)])
    assert report["norm_fidelity"] > 0
    assert report["norm_features"] > 0
    assert "displacement" in report


def test_a_registered_run_continues_bit_for_bit(toy):
    kind = _short(RegisteredFidelityTrainer)
    whole = loop_of(toy, kind, "2d")
    whole.train(0)
    end_after(loop_of(toy, type("Stopped", (kind,), {"__module__": __name__}), "2d"), 2)
    continued = loop_of(toy, type("Stopped", (kind,), {"__module__": __name__}), "2d")
    continued.resume()
    continued.train(0)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())
    theirs, ours = (loop.trainer.deformation.state_dict() for loop in (whole, continued))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_memory_count_holds_the_trainers_own_step(toy):
    planned = planned_step(loop_of(toy, _short(FidelityTrainer)))
    plain, registered = (StepMemory(kind)(planned) for kind in (FidelityTrainer, RegisteredFidelityTrainer))
    own = sum(4 * 4 * weight.numel() for weight in _network(planned.configuration.network).parameters())
    assert registered.total > plain.total + own


def _network(network: NetworkSpec) -> DeformationNetwork:
    kind = RegisteredFidelityTrainer
    return DeformationNetwork(DeformationSpec.of(network, kind.deformation_width, kind.largest_displacement))


def _short(kind, **changes):
    settings = {"iterations": 4, "iterations_per_epoch": 2, "learning_rate": 2e-3, "validation_patches": 2}
    return type(f"Short{kind.__name__}", (kind,), {"__module__": __name__, **settings, **changes})
