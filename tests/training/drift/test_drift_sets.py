"""Sets of one size are stacked: the numbers are those of each by itself."""

import pytest
import torch

from gdmunet.training.drift import sets
from gdmunet.training.drift.loss import drift_loss, drift_losses
from gdmunet.training.drift.options import FIELDS, DriftOptions
from gdmunet.training.drift.sets import SetSamples, drift_of_sets

# Sets 1 and 4, and 2 and 3, have one size; set 0 has one of its own. Each has another unit of length.
SHAPES = [(1, 40, 50, 20, 8), (2, 30, 30, 10, 6), (1, 40, 60, 20, 8), (1, 40, 60, 20, 8), (2, 30, 30, 10, 6)]


def samples(negatives: bool = True) -> dict[str, SetSamples]:
    made = {}
    for number, (problems, g, p, n, channels) in enumerate(SHAPES):
        draws = torch.Generator().manual_seed(number)
        parts = [10.0**number * torch.randn(problems, count, channels, generator=draws) for count in (g, p, n)]
        made[f"set {number}"] = SetSamples(parts[0].requires_grad_(), parts[1], parts[2] if negatives else None)
    return made


def of_each(given, options, averages):
    return {
        key: drift_loss(one.generated, one.positives, one.negatives, options=options, force_average=averages.get(key))
        for key, one in given.items()
    }


@pytest.mark.parametrize("negatives", [True, False])
@pytest.mark.parametrize("field", FIELDS)
def test_a_stack_gives_the_numbers_of_each_set(field, negatives):
    given, options = samples(negatives), DriftOptions(field=field, mask_twins=True)
    found, expected = drift_of_sets(given, options, {}), of_each(given, options, {})
    assert list(found) == list(given)
    for key, (loss, measured) in expected.items():
        torch.testing.assert_close(found[key].loss, loss.mean(), rtol=1e-4, atol=1e-5)
        for name in ("scale", "raw_force", "effective_sample_size", "direction"):
            ours, theirs = getattr(found[key].field, name), getattr(measured, name)
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
        (ours,) = torch.autograd.grad(found[key].loss.sum(), given[key].generated, retain_graph=True)
        (theirs,) = torch.autograd.grad(loss.mean(), given[key].generated)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_running_averages_belong_to_their_sets():
    given, options = samples(), DriftOptions(normalisation="ema", force_decay=0.5)
    averages = {key: torch.full((3,), 0.1 * number) for number, key in enumerate(given, 1) if number != 5}
    found, expected = drift_of_sets(given, options, averages), of_each(given, options, averages)
    for key, (_, measured) in expected.items():
        torch.testing.assert_close(found[key].field.force_average, measured.force_average)


@pytest.mark.parametrize(("most", "calls"), [(2**24, 3), (1, 5)])
def test_as_many_are_stacked_as_distances_may_be_held(monkeypatch, most, calls):
    counted = []

    def count(generated, *rest, **named):
        counted.append(len(generated))
        return losses(generated, *rest, **named)

    losses = sets.drift_losses
    monkeypatch.setattr(sets, "drift_losses", count)
    drift_of_sets(samples(), DriftOptions(block_elements=most), {})
    assert (len(counted), sum(counted)) == (calls, 5)


def test_sets_that_other_processes_hold_in_other_sizes_are_apart():
    one = samples()["set 1"]
    other = SetSamples(one.generated, one.positives, one.negatives, sizes=(30, 29))
    assert one.size != other.size


@pytest.mark.parametrize("block", [2**24, 300])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("field", FIELDS)
def test_samples_on_both_sides_are_those_of_either(field, weighted, block):
    draws = torch.Generator().manual_seed(3)
    generated, real, further, shared = (
        torch.randn(2, 1, count, 6, generator=draws) + shift
        for count, shift in ((20, 0), (25, 0.5), (8, -0.5), (30, 1))
    )
    generated.requires_grad_()
    options = DriftOptions(field=field, mask_twins=True, block_elements=block)
    weights = torch.rand(2, 1, 8, generator=draws) if weighted else None
    ones = torch.ones(2, 1, 30)
    twice = drift_losses(
        generated,
        torch.cat([real, shared], 2),
        torch.cat([further, shared], 2),
        torch.cat([weights, ones], 2) if weighted else None,
        options,
    )
    once = drift_losses(generated, real, further, weights, options, shared=shared)
    torch.testing.assert_close(once[0], twice[0], rtol=1e-4, atol=1e-5)
    for name in ("scale", "raw_force", "effective_sample_size", "direction"):
        found, expected = getattr(once[1], name), getattr(twice[1], name)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    gradients = [torch.autograd.grad(loss.sum(), generated)[0] for loss, _ in (once, twice)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[1].abs().max()))
