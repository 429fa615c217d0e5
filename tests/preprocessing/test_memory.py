"""Storages are followed rightly, tensors without data answer for values, and mixed precision is CUDA's."""

import pytest
import torch

from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.preprocessing.cuda_autocast import as_on_cuda
from gdmunet.preprocessing.memory import DifferentOperationsError, LinearTrace, LiveBytes, StepSize

MEGABYTE = 1024 * 1024
NETWORK = NetworkSpec(
    2, 1, (8, 16, 32), ((1,) * 3, (2,) * 3, (2,) * 3), ((3,) * 3,) * 3, (2,) * 3, (1,) * 2, "plain", "instance"
)


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


def test_only_storages_of_the_kind_of_device_count():
    with LiveBytes("meta") as live:
        kept = [torch.zeros(1000), torch.zeros(10, device="meta")]
        assert live.current == kept[1].nbytes


def test_tensors_without_data_answer_ones_and_give_every_place():
    mask = torch.empty(2, 3, dtype=torch.bool, device="meta")
    values = torch.empty(2, 3, 4, device="meta")
    with LiveBytes("meta"):
        assert bool(mask.all()) is True
        assert float(values.sum()) == 1.0
        assert int(mask.sum()) == 1
        assert values.amax((1, 2)).tolist() == [1.0, 1.0]
        assert torch.equal(mask.cpu(), torch.ones(2, 3, dtype=torch.bool))
        assert torch.zeros(4).copy_(values[0, 0]).sum() == 4
        assert mask.nonzero().shape == (6, 2)
        assert values[mask].shape == (6, 4)
        assert values[:, torch.tensor([0, 2])].shape == (2, 2, 4)
        assert values.masked_select(mask[..., None]).shape == (24,)
    with pytest.raises(RuntimeError):
        bool(mask.all())


def test_three_sizes_give_the_peak_of_every_other():
    def history(size):
        return [100, 7 * size.voxels, 50 + 2 * size.voxels + 1000 * size.patches]

    sizes = [StepSize(10, 2), StepSize(20, 2), StepSize(40, 4)]
    trace = LinearTrace.through([history(size) for size in sizes], sizes)
    for size in (StepSize(1, 1), StepSize(1000, 2), StepSize(1000, 90)):
        assert trace.peak(size) == max(history(size))
    two = LinearTrace.through([history(size) for size in sizes[:2]], sizes[:2])
    assert two.peak(StepSize(1000, 2)) == 7000
    assert LinearTrace.through([history(sizes[0])], sizes[:1]).peak(sizes[0]) == max(history(sizes[0]))


def test_other_operations_at_another_size_are_told():
    with pytest.raises(DifferentOperationsError):
        LinearTrace.through([[1, 2], [1, 2, 3]], [StepSize(1, 1), StepSize(2, 1)])


def test_mixed_precision_is_that_of_torch():
    """Convolutions, norms and what follows them come out in the types that torch's own autocast gives."""
    module = build_network(NETWORK)
    condition = torch.randn(1, 2, 8, 8, 8)
    with as_on_cuda("bfloat16"):
        ours = module(condition)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = module(condition)
    assert ours.dtype == theirs.dtype == torch.float32  # the output layer widens what comes in bfloat16
    assert torch.equal(ours, theirs)


def test_mixed_precision_raises_what_needs_range():
    half = torch.randn(2, 8, 4, dtype=torch.bfloat16)
    with as_on_cuda("bfloat16"):
        assert torch.nn.functional.group_norm(half, 2).dtype == torch.float32
        assert torch.matmul(half.float(), half.mT).dtype == torch.bfloat16
    assert torch.matmul(half.float(), half.float().mT).dtype == torch.float32
