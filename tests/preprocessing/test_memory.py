"""The memory count: storages are followed rightly, and the predicted peak is that of a real step."""

import copy
import functools

import pytest
import torch

from gdmunet.networks import build_network
from gdmunet.plans import NetworkSpec
from gdmunet.preprocessing.memory import (
    LiveBytes,
    StepBatch,
    masked_l1_step,
    mixed_precision,
    training_footprint,
)

MEGABYTE = 1024 * 1024


def small_network(block="plain", dimensions=3, features=(8, 16, 32), residual_channel=None):
    stages = len(features)
    return NetworkSpec(
        in_channels=2,
        out_channels=1,
        features=features,
        strides=((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1),
        kernel_sizes=((3,) * dimensions,) * stages,
        encoder_blocks=(2,) * stages,
        decoder_blocks=(1,) * (stages - 1),
        block=block,
        norm="instance",
        residual_channel=residual_channel,
    )


def measured_peak(network, patch, batch_size, precision):
    """Peak live bytes of the second step of a plain loop with torch's own AdamW on real tensors."""
    with LiveBytes() as live:
        module = build_network(network)
        average = copy.deepcopy(list(module.parameters()))
        optimizer = torch.optim.AdamW(module.parameters(), foreach=True)
        condition = torch.randn(batch_size, network.in_channels, *patch)
        target = torch.randn(batch_size, 1, *patch)
        mask = torch.ones_like(target)
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            live.restart()
            batch = StepBatch(condition, target, mask)
            masked_l1_step(module, batch, functools.partial(mixed_precision, precision))
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, list(module.parameters()), 0.01)
        return live.peak


def test_a_view_is_no_new_memory():
    with LiveBytes() as live:
        tensor = torch.zeros(MEGABYTE // 4)
        views = [tensor.view(2, -1), tensor[10:], tensor.detach()]
        assert live.current == MEGABYTE
        del tensor
        assert live.current == MEGABYTE
        del views
        assert live.current == 0
        assert live.peak == MEGABYTE


def test_an_operation_in_place_is_no_new_memory():
    with LiveBytes() as live:
        torch.zeros(MEGABYTE // 4).add_(1).mul_(2)
        assert live.peak == MEGABYTE


def test_what_autograd_saves_stays_alive():
    weight = torch.ones(MEGABYTE // 4, requires_grad=True)
    with LiveBytes() as live:
        loss = (weight * 2).exp().sum()
        # exp saves its result; the product before it is gone.
        assert live.current == MEGABYTE + 4
        loss.backward()
        assert weight.grad is not None
        del loss
        assert live.current == MEGABYTE


def test_tensors_from_before_can_be_tracked():
    tensors = {"a": [torch.zeros(100)]}
    with LiveBytes() as live:
        live.track(tensors)
        live.track(tensors)
        assert live.current == 400


def test_restart_keeps_what_is_alive():
    with LiveBytes() as live:
        kept = torch.zeros(100)
        torch.zeros(1000)
        live.restart()
        assert live.peak == live.current == kept.nbytes
        assert live.history == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("network", "patch", "batch_size"),
    [
        (small_network(), (16, 16, 24), 2),
        (small_network("residual", residual_channel=1), (24, 16, 16), 3),
        (small_network(dimensions=2), (64, 48), 4),
        (small_network(features=(8, 64, 256)), (8, 8, 8), 2),
    ],
    ids=["plain", "residual", "2d", "optimizer-bound"],
)
def test_predicted_peak_is_that_of_a_real_step(network, patch, batch_size, precision):
    if network.block == "residual" and precision != "float32":
        pytest.skip("the CPU has no average pooling in half precision")
    predicted = training_footprint(network, patch, batch_size, precision).total
    assert predicted == pytest.approx(measured_peak(network, patch, batch_size, precision), rel=0.01)


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_linear_count_is_the_direct_count(block):
    network = small_network(block)
    for patch, batch_size in [((16, 24, 40), 2), ((64, 64, 64), 5), ((24, 32, 16), 12)]:
        linear = training_footprint(network, patch, batch_size, "bfloat16")
        direct = training_footprint(network, patch, batch_size, "bfloat16", linear=False)
        assert linear.total == pytest.approx(direct.total, rel=2e-3)


def test_parts_are_those_of_the_parameters():
    network = small_network()
    expected = 4 * sum(p.numel() for p in build_network(network).parameters())
    parts = training_footprint(network, (16, 16, 16), 2, "bfloat16")
    assert (parts.parameters, parts.gradients, parts.optimizer, parts.ema) == (
        expected,
        expected,
        2 * expected,
        expected,
    )
    assert training_footprint(network, (16, 16, 16), 2, "bfloat16", ema=False).ema == 0


def test_more_is_counted_for_more():
    network = small_network()
    count = functools.partial(training_footprint, network)
    base = count((32, 32, 32), 2, "bfloat16").total
    assert count((32, 32, 32), 3, "bfloat16").total > base
    assert count((32, 32, 40), 2, "bfloat16").total > base
    assert count((32, 32, 32), 2, "float32").total > 1.3 * base
    assert count((32, 32, 32), 2, "bfloat16", state_bytes=12345).total == base + 12345


def test_a_patch_beyond_this_machine_is_counted():
    """300 GB of feature maps: only a count that allocates nothing can give a number."""
    assert training_footprint(small_network(), (1024, 1024, 1024), 2, "float32").total > 3e11


def doubled_step(network, batch, autocast):
    """Two forward passes whose graphs live at once, as a trainer of its own may do."""
    with autocast():
        loss = network(batch.condition).float().mean() + network(batch.condition.flip(0)).float().mean()
    loss.backward()


def build_with_frozen_part(spec):
    network = build_network(spec)
    network.encoder = torch.nn.Conv3d(1, 1000, 1).requires_grad_(False)
    return network


def test_a_trainer_brings_its_own_step_and_frozen_parts():
    network = small_network()
    plain = training_footprint(network, (32, 32, 32), 2, "bfloat16")
    doubled = training_footprint(network, (32, 32, 32), 2, "bfloat16", step=doubled_step)
    assert doubled.activations > 1.5 * plain.activations
    frozen = training_footprint(network, (32, 32, 32), 2, "bfloat16", build=build_with_frozen_part)
    assert frozen.parameters == plain.parameters + 8000
    assert frozen.optimizer == plain.optimizer


def test_mixed_precision_is_that_of_torch():
    """Convolutions, norms and what follows them come out in the types that torch's own autocast gives."""
    module = build_network(small_network())
    condition = torch.randn(1, 2, 8, 8, 8)
    with mixed_precision("bfloat16"):
        ours = module(condition)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = module(condition)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)


def test_mixed_precision_raises_what_needs_range():
    half = torch.randn(2, 8, 4, dtype=torch.bfloat16)
    with mixed_precision("bfloat16"):
        assert torch.nn.functional.group_norm(half, 2).dtype == torch.float32
        assert torch.matmul(half.float(), half.mT).dtype == torch.bfloat16
    assert torch.matmul(half.float(), half.float().mT).dtype == torch.float32
