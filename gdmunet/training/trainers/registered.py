"""Regression on pairs that do not lie on each other: a deformation network is trained along and takes the blame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gdmunet.composition import compose
from gdmunet.training import distributed
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.deformation import DeformationNetwork, DeformationSpec, bend, roughness
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.optimizers import adamw, load_optimizer
from gdmunet.training.trainers.step import Terms

_MEMORY = 0.95
"""Share of its past that the mean displacement keeps at each batch."""


class RegisteredFidelityTrainer(FidelityTrainer):
    """Fidelity between the target and the prediction bent onto it by a deformation network, which is not saved.

    The deformation network R takes its step on the batch's predictions just before they are compared, so that the loop
    need not know it. The generator's gradient comes from the output space alone: that of the distance of the bent
    prediction, at the prediction. Source: RegGAN (Kong et al., arXiv 2110.06465), its correction loss.
    """

    smoothness: float = 0.3
    """Weight of the squared difference of neighbouring displacements, in voxels, against the distance."""
    stillness: float = 0.01
    """Weight of the squared displacement itself: what both images agree on is to stay where it is."""
    largest_displacement: float = 8.0
    """Bound of a displacement along each axis, in voxels."""
    deformation_width: int = 16
    deformation_learning_rate: float = 3e-3
    """Falls with the generator's."""

    def prepare(self) -> None:
        """The deformation network and its optimiser."""
        super().prepare()
        spec = DeformationSpec.of(self.network_spec, self.deformation_width, self.largest_displacement)
        self.deformation = DeformationNetwork(spec).to(self.device)
        weights, rate = self.deformation.parameters(), self.deformation_learning_rate
        self.deformation_optimizer = adamw(weights, self.device, lr=rate, betas=self.betas, weight_decay=0.0)

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """The terms of fidelity for the prediction as it is bent; without it, those of a plain comparison."""
        composed = compose(prediction, batch.mask, self.units.network_background)
        field = self._learn(batch, composed.detach())
        bent, inside = bend(composed, field)
        return super().loss_terms(replace(batch, mask=batch.mask * inside), bent)

    def extra_state(self) -> dict[str, Any]:
        """The deformation network and its optimiser."""
        return super().extra_state() | {
            "deformation": self.deformation.state_dict(),
            "deformation_optimizer": self.deformation_optimizer.state_dict(),
        }

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        super().load_extra_state(extra)
        self.deformation.load_state_dict(extra["deformation"])
        load_optimizer(self.deformation_optimizer, extra["deformation_optimizer"])

    def _learn(self, batch: Batch, image: torch.Tensor) -> torch.Tensor:
        """The field (B, axes, ...) between an image and the target, after which R takes its step."""
        self.deformation_optimizer.zero_grad(set_to_none=True)
        raw = self.deformation(image, batch.target)
        field = raw - self._mean_displacement(raw)
        bent, inside = bend(image, field)
        distance = self.fidelity_error(replace(batch, mask=batch.mask * inside), bent)
        unevenness, displacement = roughness(field), field.square().mean()
        (distance + self.smoothness * unevenness + self.stillness * displacement).backward()
        for weight in self.deformation.parameters():
            if weight.grad is not None:
                weight.grad = distributed.mean_over_ranks(weight.grad)
        share = self.learning_rate_at(self.step.iteration) / self.learning_rate if self.learning_rate else 0.0
        for group in self.deformation_optimizer.param_groups:
            group["lr"] = self.deformation_learning_rate * share
        self.deformation_optimizer.step()
        self.step.note("displacement", displacement.sqrt())
        self.step.note("roughness", unevenness)
        done: torch.Tensor = field.detach()
        return done

    def _mean_displacement(self, field: torch.Tensor) -> torch.Tensor:
        """The moving average (1, axes, ...) of all fields: if all were shifted alike, the generator could be, too."""
        axes = [axis for axis in range(field.ndim) if axis != 1]
        present = distributed.mean_over_ranks(field.detach().mean(dim=axes, keepdim=True))
        self.deformation.mean.lerp_(present, 1 - _MEMORY)
        # A copy: the next batch moves the average before this one's gradient is taken.
        return self.deformation.mean.clone()


class GDMTrainerRegistered(GDMTrainer, RegisteredFidelityTrainer):
    """The method with registered fidelity: the bent comparison's gradient meets the drift's in the output space."""
