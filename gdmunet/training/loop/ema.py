"""Exponential moving average of weights, which validation, checkpoints and prediction use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from gdmunet.errors import GdmError


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, each once (a U-Net's decoder holds its encoder, under a second name)."""
    return {name: value.detach() for name, value in [*network.named_parameters(), *network.named_buffers()]}


@torch.no_grad()
def copy_weights(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Write `state` into the network's own tensors."""
    copy_each(weights_of(network), state)


def copy_each(own: dict[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    """Copy given tensors into those of the same name; another shape would be broadcast, and is an error.

    Raises
    ------
    GdmError
        A tensor is missing, or has another shape.
    """
    wrong = [name for name, value in own.items() if name not in given or given[name].shape != value.shape]
    if wrong:
        found = tuple(given[wrong[0]].shape) if wrong[0] in given else "missing"
        raise GdmError(
            f"{len(wrong)} saved tensors are not those of the network, first {wrong[0]}",
            found=found,
            expected=tuple(own[wrong[0]].shape),
            remedy="use the file of a training of the same plans and trainer",
        )
    for name, value in own.items():
        value.copy_(given[name])


class WeightAverage:
    """Holds the averaged weights of a network.

    Parameters
    ----------
    network
        Network whose floating-point weights are averaged; anything else is copied.
    decay
        Weight of the past per step. Early steps use less, (1 + t) / (10 + t), so that a short training is not
        dominated by the random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: value.clone() for name, value in weights_of(network).items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        present = weights_of(network)
        averaged = [name for name, value in present.items() if value.is_floating_point()]
        copied = [name for name, value in present.items() if not value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in averaged], [present[name] for name in averaged], weight)
        if copied:
            torch._foreach_copy_([self.state[name] for name in copied], [present[name] for name in copied])

    def load(self, state: dict[str, torch.Tensor], steps: int) -> None:
        """Continue from a saved average."""
        copy_each(self.state, state)
        self.steps = steps

    @contextlib.contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Inside, the network has the averaged weights and is in evaluation mode; afterwards it has its own again.

        Meanwhile `state` holds the network's own weights: they change places one by one, so no third copy of all
        weights is made.
        """
        training = network.training
        self._change_places(network)
        network.eval()
        try:
            yield
        finally:
            self._change_places(network)
            network.train(training)

    @torch.no_grad()
    def _change_places(self, network: nn.Module) -> None:
        for name, value in weights_of(network).items():
            own = value.clone()
            value.copy_(self.state[name])
            self.state[name].copy_(own)
