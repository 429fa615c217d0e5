"""Every parameter that training optimises has a gradient after one step, as training by several processes needs."""

import dataclasses

import pytest
import torch

from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.trainers.discriminator import DiscriminatorSpec, PatchDiscriminator, discriminator_loss
from gdmunet.training.trainers.stepwise import stepwise_spec

SPACINGS = {"3D": (1.0, 1.0, 1.0), "thick slices": (3.0, 1.0, 1.0), "2D": (1.0, 1.0)}
PATCHES = {"3D": (16, 16, 16), "thick slices": (8, 32, 32), "2D": (32, 32)}


def thin(preset: str, shape: str, residual_channel: int | None) -> tuple[NetworkSpec, tuple[int, ...]]:
    """The planner's network for a small patch with as many stages, blocks and strides, and its patch; 4 channels."""
    topology = plan_topology(SPACINGS[shape], PATCHES[shape], PRESETS[preset].max_poolings)
    spec = dataclasses.replace(PRESETS[preset], base_features=4).network(topology, 2, residual_channel)
    assert len(spec.features) >= 3
    return spec, topology.patch_size


def without_gradient(network: torch.nn.Module) -> list[str]:
    return [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]


@pytest.mark.parametrize("takes_state", [False, True])
@pytest.mark.parametrize("residual_channel", [None, 1])
@pytest.mark.parametrize("shape", SPACINGS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_trained_parameter_of_every_preset_has_a_gradient(preset, shape, residual_channel, takes_state):
    spec, patch = thin(preset, shape, residual_channel)
    spec = stepwise_spec(spec) if takes_state else spec
    network = build_network(spec).train()
    network(torch.randn(2, spec.in_channels, *patch)).square().mean().backward()
    assert without_gradient(network) == []
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    stages = range(len(spec.features) - 2)
    assert frozen == {f"unet.decoder.seg_layers.{n}.{part}" for n in stages for part in ("weight", "bias")}


@pytest.mark.parametrize("preset", ["plain", "M"])
def test_frozen_output_layers_say_nothing_in_a_prediction(preset):
    spec, patch = thin(preset, "2D", None)
    network = build_network(spec).eval()
    condition = torch.randn(1, 2, *patch)
    with torch.no_grad():
        before = network(condition)
        for value in network.parameters():
            if not value.requires_grad:
                value.fill_(torch.nan)
        assert torch.equal(network(condition), before)


@pytest.mark.parametrize("shape", SPACINGS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_of_the_discriminator_beside_it_has_a_gradient(preset, shape):
    spec, patch = thin(preset, shape, None)
    judge = PatchDiscriminator(DiscriminatorSpec.of(spec, 4, 3))
    condition, image, mask = torch.randn(2, 2, *patch), torch.randn(2, 1, *patch), torch.ones(2, 1, *patch)
    real, fake = judge(condition, image)[-1], judge(condition, -image)[-1]
    discriminator_loss(real, fake, mask, "hinge").backward()
    assert without_gradient(judge) == []
