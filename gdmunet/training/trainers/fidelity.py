"""Paired regression: the prediction is to match this patient's target."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

from gdmunet.training import distributed
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.shifted_error import ShiftOptions, best_shifted
from gdmunet.training.trainers.step import Term, Terms
from gdmunet.training.trainers.trainer import Trainer


class FidelityTrainer(Trainer):
    """Masked L1 (or another distance) between prediction and target, averaged over body voxels."""

    fidelity_weight: float = 1.0
    fidelity_loss: Literal["l1", "smooth_l1", "mse", "shifted_l1"] = "l1"
    """Distance; ``shifted_l1``: the least L1 over small shifts of the target, for pairs that are badly registered."""
    shift_voxels: int = 1
    """Largest shift along each axis under ``shifted_l1``; across thick slices there is none."""
    shift_window: int = 4
    """Edge in voxels of the blocks that share a shift under ``shifted_l1``, the one of the least mean error."""
    gradient_weight: float = 0.0
    """Weight of the L1 distance between finite differences: sharper edges."""

    def prepare(self) -> None:
        """A look at the settings of the loss."""
        super().prepare()
        self._shifts()

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """The fidelity term, and the gradient term where it has a weight."""
        error = self.fidelity_error(batch, prediction)
        terms: dict[str, Term | torch.Tensor] = {"fidelity": self.fidelity_weight * error}
        if self.gradient_weight:
            terms["gradient"] = self.gradient_weight * gradient_difference(prediction, batch.target, batch.mask)
        return terms

    def fidelity_error(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        """The mean distance () of a prediction (B, 1, ...) from its target over body voxels, without its weight."""
        target = batch.target
        if self.fidelity_loss == "shifted_l1":
            target = best_shifted(prediction, target, batch.mask, self._shifts())
        return masked_mean(LOSSES[self.fidelity_loss](prediction, target), batch.mask)

    def _shifts(self) -> ShiftOptions:
        across, *within = [self.shift_voxels] * self.configuration.dimensions
        return ShiftOptions((0 if self.thick_slices else across, *within), self.shift_window)


def absolute_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """|prediction - target|, voxel by voxel."""
    return (prediction - target).abs()


def smooth_absolute_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Huber's loss with its bend at 0.1 network units, voxel by voxel."""
    return functional.smooth_l1_loss(prediction, target, reduction="none", beta=0.1)


def squared_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(prediction - target)^2, voxel by voxel."""
    return (prediction - target).square()


LOSSES = {"l1": absolute_error, "smooth_l1": smooth_absolute_error, "mse": squared_error, "shifted_l1": absolute_error}


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `values` over the voxels of `mask`, both (B, 1, ...).

    Under several processes the count is that of all of them, so that the averaged gradient is the gradient of the
    mean over the whole batch.
    """
    count = distributed.mean_over_ranks(mask.sum()).clamp(min=1.0)
    return (values * mask).sum() / count


def gradient_difference(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """L1 distance of forward differences along every axis, where both voxels are body; (B, 1, ...) -> scalar."""
    total = prediction.new_zeros(())
    axes = range(2, prediction.ndim)
    for axis in axes:
        error = (prediction - target).diff(dim=axis).abs()
        size = mask.shape[axis]
        both = mask.narrow(axis, 0, size - 1) * mask.narrow(axis, 1, size - 1)
        total = total + masked_mean(error, both)
    return total / len(axes)
