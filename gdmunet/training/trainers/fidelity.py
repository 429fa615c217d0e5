"""Paired regression: the prediction is to match this patient's target."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

from gdmunet.training import distributed
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.step import Term, Terms
from gdmunet.training.trainers.trainer import Trainer


class FidelityTrainer(Trainer):
    """Masked L1 (or smooth L1, or MSE) between prediction and target, averaged over body voxels."""

    fidelity_weight: float = 1.0
    fidelity_loss: Literal["l1", "smooth_l1", "mse"] = "l1"
    gradient_weight: float = 0.0
    """Weight of the L1 distance between finite differences: sharper edges."""

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """The fidelity term, and the gradient term where it has a weight."""
        error = LOSSES[self.fidelity_loss](prediction, batch.target)
        terms: dict[str, Term | torch.Tensor] = {"fidelity": self.fidelity_weight * masked_mean(error, batch.mask)}
        if self.gradient_weight:
            terms["gradient"] = self.gradient_weight * gradient_difference(prediction, batch.target, batch.mask)
        return terms


def absolute_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """|prediction - target|, voxel by voxel."""
    return (prediction - target).abs()


def smooth_absolute_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Huber's loss with its bend at 0.1 network units, voxel by voxel."""
    return functional.smooth_l1_loss(prediction, target, reduction="none", beta=0.1)


def squared_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(prediction - target)^2, voxel by voxel."""
    return (prediction - target).square()


LOSSES = {"l1": absolute_error, "smooth_l1": smooth_absolute_error, "mse": squared_error}


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
