"""What is remembered of an operation is what running it again would give, and what must be run is run."""

import pytest
import torch
from torch.nn import functional

from gdmunet.preprocessing.memory import LiveBytes


def tensors(device):
    return torch.empty(2, 4, 6, 8, device=device), torch.empty(3, 4, 3, 3, device=device)


OPERATIONS = {
    "promotion": lambda values, _weight: values.half() * 2 + values[0, 0],
    "comparison": lambda values, _weight: values > 0.5,
    "convolution": lambda values, weight: functional.conv2d(values, weight, padding=1),
    "channels last": lambda values, _weight: values.to(memory_format=torch.channels_last) * 2,
    "transposed": lambda values, _weight: values.transpose(1, 3).exp(),
    "several results": lambda values, _weight: values.topk(3, dim=-1),
    "list of results": lambda values, weight: torch._foreach_mul([values, weight], [2.0, 3.0]),
    "another factor": lambda values, weight: torch._foreach_add([values, weight], 1),
    "reduction": lambda values, _weight: values.sum((1, 2), keepdim=True),
    "integers": lambda values, _weight: values.argmax(1) + 1,
    "written": lambda values, _weight: torch.mul(values, 2, out=torch.empty_like(values)),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_second_result_is_like_that_of_real_tensors(operation):
    expected = operation(*tensors("cpu"))
    with LiveBytes("meta") as live:
        given = tensors("meta")
        results = [operation(*given) for _ in range(2)]
        live.restart()
        kept = live.current
        again = operation(*given)
        added = live.current - kept
    listed = [value if isinstance(value, (list, tuple)) else [value] for value in (expected, *results, again)]
    for wanted, *made in zip(*listed, strict=True):
        for one in made:
            assert (one.shape, one.stride(), one.dtype) == (wanted.shape, wanted.stride(), wanted.dtype)
            assert one.is_meta
    assert added == sum(value.untyped_storage().nbytes() for value in listed[0])


def test_a_view_stays_a_view_and_a_value_a_value():
    values, _ = tensors("meta")
    with LiveBytes("meta") as live:
        live.track(values)
        held = live.current
        for _ in range(2):
            view = values.view(8, 48).t()
            assert view.untyped_storage()._cdata == values.untyped_storage()._cdata
            assert float(values.mean()) == 1.0
        assert live.current == held


def test_work_in_place_returns_its_tensor_and_changes_shapes_where_it_would():
    with LiveBytes("meta"):
        values, weight = tensors("meta")
        version = values._version
        assert values.add_(1) is values
        assert values._version > version
        torch._foreach_mul_([values, weight], 2.0)
        assert values.unsqueeze_(0).shape == (1, 2, 4, 6, 8)
        assert weight.resize_(7).shape == (7,)


def test_gradients_flow_through_what_is_remembered():
    with LiveBytes("meta"):
        values, weight = tensors("meta")
        weight.requires_grad_()
        for _ in range(2):
            weight.grad = None
            functional.conv2d(values, weight).relu().square().sum().backward()
            assert weight.grad.shape == weight.shape


def test_real_tensors_are_computed_every_time():
    with LiveBytes():
        values = torch.zeros(3)
        for number in range(1, 4):
            values.add_(1)
            assert torch.equal(values * 2, torch.full((3,), 2.0 * number))
