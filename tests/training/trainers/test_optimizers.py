"""The form of AdamW that a device has, and states that come from another."""

import copy

import pytest
import torch

from gdmunet.training.trainers.optimizers import adamw, load_optimizer

CPU, GPU = torch.device("cpu"), torch.device("cuda")
GRADIENTS = [torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]


def stepped(optimizer, weight, gradients):
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach().clone()


@pytest.mark.parametrize(("saving", "continuing"), [(GPU, CPU), (CPU, GPU), (CPU, CPU)])
def test_a_state_continues_in_the_form_of_the_device_that_it_comes_to(saving, continuing):
    """Weights lie on the CPU, which has the fused form as well."""
    first = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = adamw([first], saving, lr=0.1)
    stepped(optimizer, first, GRADIENTS[:3])
    second = torch.nn.Parameter(first.detach().clone())
    other = adamw([second], continuing, lr=0.1)
    load_optimizer(other, copy.deepcopy(optimizer.state_dict()))
    assert [group["fused"] for group in other.param_groups] == [True if continuing is GPU else None]
    torch.testing.assert_close(stepped(other, second, GRADIENTS[3:]), stepped(optimizer, first, GRADIENTS[3:]))


def test_an_optimiser_without_such_forms_continues_too():
    weight = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = torch.optim.Rprop([weight], lr=0.1)
    stepped(optimizer, weight, GRADIENTS[:2])
    load_optimizer(optimizer, copy.deepcopy(optimizer.state_dict()))
    assert len(optimizer.state) == 1
