"""The output layer computes in float32, also within mixed precision."""

import copy

import pytest
import torch
from planned_networks import planned_network
from torch import nn

from gdmunet.inference.sliding_window import WindowOptions, predict_volume
from gdmunet.networks import build_network
from gdmunet.output_layer import computes_in_float32

SCALE = 500.0  # HU for one network unit


def random_head(network: nn.Module, size: float = 2.0) -> nn.Module:
    """The output layer, with weights that give values as bone has them."""
    head = network.unet.decoder.seg_layers[-1]
    nn.init.normal_(head.weight, std=size / head.in_channels**0.5)
    nn.init.constant_(head.bias, 0.7)
    return head


@pytest.mark.parametrize("preset", ["tiny", "M"])
@pytest.mark.parametrize("residual_channel", [None, 0])
def test_bfloat16_does_not_round_the_output_in_hu(preset, residual_channel):
    """Beside what half precision does to the features: that error stays, and is not looked at here."""
    torch.manual_seed(0)
    network = build_network(planned_network(preset, residual_channel=residual_channel)).eval()
    head, seen = random_head(network), []
    head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    condition = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        predicted = network(condition)
    (features,) = seen
    assert (features.dtype, predicted.dtype) == (torch.bfloat16, torch.float32)
    exact = torch.einsum("oc,bczyx->bozyx", head.weight.flatten(1).double(), features.double()) + head.bias.double()
    before = (exact.bfloat16().double() - exact).abs().mean() * SCALE
    exact = exact if residual_channel is None else exact + condition.double()
    after = (predicted.double() - exact).abs().mean() * SCALE
    assert before > 0.5
    assert after < 1e-3


def test_a_prediction_in_bfloat16_is_not_rounded():
    """Windows go through the same network: neighbouring numbers of bfloat16 are 2 HU apart at 500 HU, these are not."""
    torch.manual_seed(0)
    network = build_network(planned_network()).eval()
    random_head(network)
    options = WindowOptions(precision="bfloat16", step_size=1.0)
    predicted = torch.from_numpy(predict_volume(network, torch.randn(1, 16, 16, 16), (16, 16, 16), options))
    assert (predicted.bfloat16().float() == predicted).float().mean() < 0.05


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("size", [3, 8, 19])
def test_outputs_and_gradients_are_those_of_float32(dimensions, size):
    layer = (nn.Conv2d, nn.Conv3d)[dimensions - 2](5, 2, 1)
    plain = copy.deepcopy(layer)
    computes_in_float32(layer)
    features = torch.randn(2, 5, size, *(7,) * (dimensions - 1)).bfloat16().requires_grad_()
    widened = features.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(features)
    wanted = plain(widened)
    torch.testing.assert_close(found, wanted)
    slope = torch.randn_like(wanted)
    found.backward(slope)
    wanted.backward(slope)
    torch.testing.assert_close(features.grad, widened.grad.bfloat16())
    for one, other in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_in_float32_it_is_the_convolution_itself_and_a_copy_has_weights_of_its_own():
    layer = nn.Conv3d(4, 1, 1)
    plain, features = copy.deepcopy(layer), torch.randn(2, 4, 5, 6, 7)
    computes_in_float32(layer)
    assert torch.equal(layer(features), plain(features))
    other = copy.deepcopy(layer)
    nn.init.zeros_(other.weight)
    assert not torch.equal(other(features), layer(features))


# The compiler's own way with such functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_it_compiles_in_one_graph():
    layer = nn.Conv3d(4, 1, 1)
    computes_in_float32(layer)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    features = torch.randn(1, 4, 8, 8, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        compiled(features).sum().backward()
    assert features.grad.dtype == torch.bfloat16
    assert layer.weight.grad.isfinite().all()
