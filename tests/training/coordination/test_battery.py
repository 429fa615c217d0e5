"""Several encoders count by direction alone."""

import pytest
import torch

from gdmunet.training.coordination import battery
from gdmunet.training.coordination.battery import shared_by_battery


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direction_of(found):
    """What reaches the volume if `found` (B, K, ...) arrives at its copies."""
    volume = torch.zeros(len(found), 1, *found.shape[2:], requires_grad=True)
    (slope,) = torch.autograd.grad(shared_by_battery(volume, found.shape[1]), volume, found)
    return slope


@pytest.mark.parametrize("size", [(5, 6), (4, 5, 6)])
def test_the_gradient_is_the_mean_of_unit_gradients_times_the_mean_length(size):
    found = random(2, 3, *size) * torch.tensor([1.0, 100.0, 1e-3]).view(1, 3, *[1] * len(size))
    lengths = [found[:, k].double().norm() for k in range(3)]
    units = torch.stack([found[:, k].double() / lengths[k] for k in range(3)])
    expected = units.mean(0) * sum(lengths) / 3
    torch.testing.assert_close(direction_of(found)[:, 0].double(), expected, rtol=1e-5, atol=1e-6)
    # A loss scale passes through.
    torch.testing.assert_close(direction_of(found * 1024) / 1024, direction_of(found))


def test_copies_are_the_volume_and_one_encoder_is_left_alone():
    volume, found = random(2, 1, 3, 4), random(2, 1, 3, 4, seed=1)
    assert torch.equal(shared_by_battery(volume, 3), volume.expand(2, 3, 3, 4))
    torch.testing.assert_close(direction_of(found), found)


def test_an_encoder_without_gradient_has_no_say_and_gives_no_nan():
    found = random(2, 2, 3, 4)
    found[:, 1] = 0
    slope = direction_of(found)
    assert torch.cosine_similarity(slope.flatten(), found[:, 0].flatten(), dim=0) > 0.9999
    assert direction_of(torch.zeros(2, 2, 3, 4)).abs().max() == 0


def test_lengths_are_those_of_the_whole_batch_on_every_process(monkeypatch):
    whole = random(4, 3, 3, 4)
    expected = direction_of(whole)
    total = whole.square().sum((0, 2, 3)).view(1, 3, 1, 1)
    monkeypatch.setattr(battery, "sum_over_ranks", lambda _: total)
    for part, wanted in zip(whole.split(2), expected.split(2), strict=True):
        torch.testing.assert_close(direction_of(part), wanted)
