"""Generators: one forward pass from condition to prediction, built from a `NetworkSpec` alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from gdmunet.network_spec import NetworkSpec
from gdmunet.output_layer import computes_in_float32


class Generator(nn.Module):
    """A U-Net whose output may be a change of one condition channel.

    Parameters
    ----------
    spec
        The network in numbers.

    Notes
    -----
    forward: condition (B, C, z, y, x) or (B, C, y, x) -> prediction (B, out_channels, ...), both in network units.
    Where `spec.takes_state` the input is that of `stepwise_input`, and the output an estimate of the target.
    With a dial the prediction is F + realism H: of the U-Net F, which realism 0 gives as it is, and of the change H,
    a few convolutions that see the condition and F. No gradient reaches F through H.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        unet: Any = _build_unet(spec)
        self.unet = unet
        *unused, head = unet.decoder.seg_layers
        for layer in unused:
            # An output layer for each lower stage of the decoder, which deep supervision alone would use. Training by
            # several processes waits for a gradient of every parameter that asks for one.
            layer.requires_grad_(False)
        if spec.residual_channel is not None:
            # The first prediction is the condition itself, so training starts at its error, not above it.
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        computes_in_float32(unet.decoder.seg_layers[-1])
        # After the U-Net, whose first weights are so those of a network without a dial.
        self.dial = None if spec.dial_channels is None else _build_dial(spec, spec.dial_channels)

    def forward(
        self, condition: torch.Tensor, realism: float | None = 0.0
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Predict the target, (B, C, ...) -> (B, out_channels, ...); `realism` None gives F and H apart."""
        faithful = self._faithful(condition)
        if realism == 0.0:
            return faithful
        if self.dial is None:
            raise TypeError("a network without a dial has one prediction")
        seen = faithful.detach()
        change: torch.Tensor = self.dial(torch.cat([condition, seen.to(condition.dtype)], dim=1))
        return (faithful, change) if realism is None else faithful + realism * change

    def _faithful(self, condition: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.unet(condition)
        if self.spec.residual_channel is None:
            return change
        channel = self.spec.residual_channel
        return condition[:, channel : channel + 1] + change


def stepwise_input(condition: torch.Tensor, state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Input of a network that takes a state: condition (B, C, ...), state (B, 1, ...), time (B,) in 0 to 1.

    The time is a plane beside the images, so the network stays a function of one tensor: windows, flips, batches and
    compilation work as for every other network.
    """
    plane = time.to(state).reshape(-1, *[1] * (state.ndim - 1)).expand_as(state)
    return torch.cat([condition, state, plane], dim=1)


def build_network(spec: NetworkSpec) -> Generator:
    """A generator with fresh weights."""
    return Generator(spec)


def checkpoint_stages(network: nn.Module) -> None:
    """Recompute each stage of the U-Net in the backward pass instead of keeping its activations."""
    for name, module in network.named_modules():
        parts = name.split(".")
        if len(parts) >= 3 and parts[-2] == "stages" and parts[-1].isdigit():
            module.forward = functools.partial(
                checkpoint, module.forward, use_reentrant=False, context_fn=functools.partial(_both_passes, module)
            )


def _both_passes(module: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Contexts of a stage's first pass and of its repetition."""
    return nullcontext(), _counting_nothing(module)


@contextmanager
def _counting_nothing(module: nn.Module) -> Iterator[None]:
    """Inside, batch norm leaves its running statistics alone: it has counted the batch in the first pass."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    counts: list[Any] = [layer.num_batches_tracked for layer in layers]
    before = [count.clone() for count in counts]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum, count, earlier in zip(layers, momenta, counts, before, strict=True):
            layer.momentum = momentum
            count.copy_(earlier)


def _build_unet(spec: NetworkSpec) -> nn.Module:
    conv = nn.Conv3d if spec.dimensions == 3 else nn.Conv2d
    common = dict(
        input_channels=spec.in_channels,
        n_stages=len(spec.features),
        features_per_stage=list(spec.features),
        conv_op=conv,
        kernel_sizes=[list(k) for k in spec.kernel_sizes],
        strides=[list(s) for s in spec.strides],
        num_classes=spec.out_channels,
        n_conv_per_stage_decoder=list(spec.decoder_blocks),
        conv_bias=True,
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        **_norm_arguments(spec),
    )
    if spec.block == "residual":
        network: nn.Module = ResidualEncoderUNet(n_blocks_per_stage=list(spec.encoder_blocks), **common)
        network.apply(_initialize)
        network.apply(_close_residual_branch)
        return network
    network = PlainConvUNet(n_conv_per_stage=list(spec.encoder_blocks), **common)
    network.apply(_initialize)
    return network


def _build_dial(spec: NetworkSpec, channels: int) -> nn.Module:
    """Four convolutions without norms (in_channels + out_channels -> out_channels); the last one starts at zero."""
    conv: Any = nn.Conv3d if spec.dimensions == 3 else nn.Conv2d
    size = spec.kernel_sizes[0]
    layers: list[nn.Module] = []
    width = spec.in_channels + spec.out_channels
    for _ in range(3):
        layers += [conv(width, channels, size, padding=[n // 2 for n in size]), nn.LeakyReLU(inplace=True)]
        width = channels
    last = conv(channels, spec.out_channels, 1)
    dial = nn.Sequential(*layers, last).apply(_initialize)
    nn.init.zeros_(last.weight)
    computes_in_float32(last)
    return dial


def _norm_arguments(spec: NetworkSpec) -> dict[str, Any]:
    if spec.norm == "none":
        return {"norm_op": None, "norm_op_kwargs": None}
    layers = {
        ("batch", 2): nn.BatchNorm2d,
        ("batch", 3): nn.BatchNorm3d,
        ("instance", 2): nn.InstanceNorm2d,
        ("instance", 3): nn.InstanceNorm3d,
    }
    return {"norm_op": layers[spec.norm, spec.dimensions], "norm_op_kwargs": {"eps": 1e-5, "affine": True}}


def _close_residual_branch(module: nn.Module) -> None:
    """Start each residual block as the identity: the last norm of its branch, else its last convolution, is zero.

    Without a norm, dozens of open branches would double the variance each.
    """
    last: Any = getattr(module, "conv2", None)
    if last is not None:
        nn.init.zeros_(last.norm.weight if hasattr(last, "norm") else last.conv.weight)


def _initialize(module: nn.Module) -> None:
    """He's initialisation of a convolution."""
    kinds = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
    # Weights without data need no draw, and PyTorch imports its compiler to draw them.
    if isinstance(module, kinds) and not module.weight.is_meta:
        nn.init.kaiming_normal_(module.weight, a=1e-2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
