"""What a frozen encoder adds to the memory of a training step, counted on meta tensors like the rest."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from gdmunet.preprocessing.memory import Autocast, StepBatch, training_footprint

if TYPE_CHECKING:
    from gdmunet.device import Precision
    from gdmunet.encoders.base import FrozenEncoder
    from gdmunet.plans import MemoryFootprint, NetworkSpec

# Gradients of the two objectives and their combination, float32, beside what autograd holds.
_OUTPUT_COPIES = 3


@dataclass(frozen=True, eq=False)
class FeatureStep:
    """A step of coordinated training on meta tensors: generator, encoder forward and backward, generator backward."""

    encoder: FrozenEncoder

    def __call__(self, network: nn.Module, batch: StepBatch, autocast: Autocast) -> None:
        """Run it."""
        with autocast():
            prediction = network(batch.condition)
        output = prediction.float()
        fidelity = ((output - batch.target).abs() * batch.mask).sum() / batch.mask.sum().clamp(min=1)
        (first,) = torch.autograd.grad(fidelity, prediction, retain_graph=True)
        background = torch.zeros(())
        with torch.no_grad(), autocast():
            self.encoder(torch.lerp(background, batch.target, batch.mask))
        with autocast():
            maps = self.encoder(torch.lerp(background, output, batch.mask))
        # The tokens are few; what counts is that every map gets a gradient of its own size.
        drift = torch.stack([level.values.flatten(2)[:, :, 0].float().square().sum() for level in maps]).sum()
        (second,) = torch.autograd.grad(drift, prediction)
        prediction.backward(gradient=(first.float() + second.float()).to(prediction.dtype))


def feature_footprint(
    alone: MemoryFootprint,
    network: NetworkSpec,
    patch_size: tuple[int, ...],
    batch_size: int,
    precision: Precision,
    encoder: FrozenEncoder,
    bank: int,
) -> MemoryFootprint:
    """The footprint of fidelity training, and on top of it the encoder, the bank and the output gradients.

    Parameters
    ----------
    alone
        Of the same trainer without an encoder.
    encoder
        With weights on any device.
    bank
        Bytes of the feature bank.
    """
    # The encoder pads a patch to multiples of its divisor; its share is counted on the padded patch.
    padded = tuple(-(-n // encoder.divisor) * encoder.divisor for n in patch_size)
    count = functools.partial(training_footprint, network, padded, batch_size, precision, divisor=encoder.divisor)
    added = count(step=_step_of(encoder)).activations - count().activations
    weights = sum(t.numel() * t.element_size() for t in [*encoder.parameters(), *encoder.buffers()])
    output = _OUTPUT_COPIES * 4 * batch_size * int(np.prod(patch_size))
    return replace(alone, encoder=max(0, added - output) + weights, output_gradients=output, bank=bank)


@functools.lru_cache(maxsize=8)
def _step_of(encoder: FrozenEncoder) -> FeatureStep:
    with _plain_device():
        return FeatureStep(copy.deepcopy(encoder).to("meta"))


@contextlib.contextmanager
def _plain_device() -> Iterator[None]:
    with torch.device("cpu"):
        yield
