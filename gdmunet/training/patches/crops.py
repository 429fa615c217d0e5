"""Crops of the case store on their way from a reading process to the device, and the batch that they become."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gdmunet.training.patches.augmentation import Augmentation, Change, Sample
from gdmunet.training.patches.batch import Batch


@dataclass(frozen=True)
class CropLabel:
    """Case, size and coming change of a crop."""

    identifier: str
    shape: tuple[int, ...]
    change: Change


@dataclass(frozen=True)
class Crops:
    """The crops of a batch, one behind the other in two tensors, so that each batch is two copies to the device.

    Attributes
    ----------
    values
        (N,) float32 of all crops.
    mask
        (M,) uint8 of all crops.
    labels
        Case, size and change of each crop, in the order of the crops.
    channels
        Channels of `values`: conditions and the target.
    patch_size
        Size of the patches that they become.
    """

    values: torch.Tensor
    mask: torch.Tensor
    labels: tuple[CropLabel, ...]
    channels: int
    patch_size: tuple[int, ...]

    @classmethod
    def empty(cls, labels: Sequence[CropLabel], channels: int, patch_size: tuple[int, ...]) -> Crops:
        """Room for crops that are to be read into `views`."""
        voxels = sum(math.prod(label.shape) for label in labels)
        values, mask = torch.empty(channels * voxels), torch.empty(voxels, dtype=torch.uint8)
        return cls(values, mask, tuple(labels), channels, patch_size)

    def views(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Of each crop the values (C + 1, ...), conditions and then the target, and the mask (1, ...)."""
        start = 0
        for label in self.labels:
            stop = start + math.prod(label.shape)
            values, mask = self.values[self.channels * start : self.channels * stop], self.mask[start:stop]
            yield values.view(self.channels, *label.shape), mask.view(1, *label.shape)
            start = stop

    def to_message(self) -> dict[str, Any]:
        """As a dictionary of arrays for a pipe: torch would send tensors through files that outlive their sender."""
        return vars(self) | {"values": self.values.numpy(), "mask": self.mask.numpy()}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Crops:
        """The inverse of `to_message`."""
        arrays = {name: torch.from_numpy(message[name]) for name in ("values", "mask")}
        return cls(**(message | arrays))

    def pinned(self) -> Crops:
        """In page-locked memory, from which a GPU copies while it computes."""
        return replace(self, values=self.values.pin_memory(), mask=self.mask.pin_memory())

    def to(self, device: torch.device) -> Crops:
        """On `device`; the copies overlap with computing where the memory is pinned."""
        values, mask = (tensor.to(device, non_blocking=True) for tensor in (self.values, self.mask))
        return replace(self, values=values, mask=mask)

    @torch.no_grad()
    def finish(self, augmentation: Augmentation | None) -> Batch:
        """The batch, made on the device that the crops lie on; without an augmentation the crops as they are."""
        count, size = len(self.labels), self.patch_size
        condition = self.values.new_empty(count, self.channels - 1, *size)
        target = self.values.new_empty(count, 1, *size)
        mask = self.values.new_empty(count, 1, *size)
        for place, ((values, body), label) in enumerate(zip(self.views(), self.labels, strict=True)):
            sample = Sample(values, body.float())
            if augmentation is not None:
                sample = augmentation.apply(sample, label.change, size)
            condition[place], target[place], mask[place] = sample.values[:-1], sample.values[-1:], sample.mask
        return Batch(condition, target, mask, tuple(label.identifier for label in self.labels))
