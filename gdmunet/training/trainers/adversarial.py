"""The adversarial rival: fidelity, and a discriminator that tells predictions from targets."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from gdmunet.composition import compose
from gdmunet.training import distributed
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.discriminator import (
    AdversarialLoss,
    DiscriminatorSpec,
    PatchDiscriminator,
    discriminator_loss,
    feature_distance,
    generator_loss,
    gradient_penalty,
)
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.optimizers import adamw, load_optimizer
from gdmunet.training.trainers.step import Terms


class AdversarialTrainer(FidelityTrainer):
    """L1, and a conditional PatchGAN (pix2pix, arXiv 1611.07004, in 3D) that sees images as a prediction shows them.

    The discriminator takes its step on the batch's predictions just before they are judged, so that the loop need
    not know it.
    """

    adversarial_weight: float = 0.01
    """Of the adversarial term against the L1, 1 : 100 as in pix2pix."""
    adversarial_loss: AdversarialLoss = "hinge"
    discriminator_width: int = 64
    discriminator_layers: int = 3
    """Layers that halve the image; at most as many as the generator has."""
    discriminator_learning_rate: float = 2e-4
    """Falls with the generator's."""
    r1_weight: float = 0.0
    """Of the gradient penalty at real images."""
    feature_matching_weight: float = 0.0
    """Of the distance between the discriminator's features of prediction and target."""

    def prepare(self) -> None:
        """The discriminator and its optimiser."""
        super().prepare()
        spec = DiscriminatorSpec.of(self.network_spec, self.discriminator_width, self.discriminator_layers)
        self.discriminator = PatchDiscriminator(spec).to(self.device).requires_grad_(False)
        weights, rate = self.discriminator.parameters(), self.discriminator_learning_rate
        self.discriminator_optimizer = adamw(weights, self.device, lr=rate, betas=(0.5, 0.999), weight_decay=0.0)

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """Fidelity, the discriminator's opinion, and the distance of its features if that has a weight."""
        terms = dict(super().loss_terms(batch, prediction))
        image, target = self._composed(batch, prediction), self._composed(batch, batch.target)
        self.step.note("loss_discriminator", self._update_discriminator(batch, image.detach(), target))
        with self._judging():
            judged = self.discriminator(batch.condition, image)
        opinion = generator_loss(judged[-1], batch.mask, self.adversarial_loss)
        terms["adversarial"] = self.adversarial_weight * opinion
        if self.feature_matching_weight:
            with torch.no_grad(), self._judging():
                real = self.discriminator(batch.condition, target)
            terms["features"] = self.feature_matching_weight * feature_distance(real[:-1], judged[:-1])
        return terms

    def extra_state(self) -> dict[str, Any]:
        """The discriminator and its optimiser."""
        return super().extra_state() | {
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        super().load_extra_state(extra)
        self.discriminator.load_state_dict(extra["discriminator"])
        load_optimizer(self.discriminator_optimizer, extra["discriminator_optimizer"])

    def _update_discriminator(self, batch: Batch, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """One step of the discriminator on a batch; gives its loss."""
        self.discriminator.requires_grad_(True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss = self._judgement(batch, image, target)
        loss.backward()
        for parameter in self.discriminator.parameters():
            if parameter.grad is not None:
                parameter.grad = distributed.mean_over_ranks(parameter.grad)
        share = self.learning_rate_at(self.step.iteration) / self.learning_rate if self.learning_rate else 0.0
        for group in self.discriminator_optimizer.param_groups:
            group["lr"] = self.discriminator_learning_rate * share
        self.discriminator_optimizer.step()
        self.discriminator.requires_grad_(False)
        return loss.detach()

    def _judgement(self, batch: Batch, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The discriminator's loss on a batch, in two passes."""
        if self.r1_weight:
            target = target.detach().requires_grad_(True)
        with self._judging():
            real = self.discriminator(batch.condition, target)[-1]
            fake = self.discriminator(batch.condition, image)[-1]
        loss = discriminator_loss(real, fake, batch.mask, self.adversarial_loss)
        if not self.r1_weight:
            return loss
        return loss + self.r1_weight * gradient_penalty(real, target, batch.mask)

    def _judging(self) -> AbstractContextManager[Any]:
        """Mixed precision, except for float16: the discriminator's gradients have no loss scale."""
        return nullcontext() if self.precision_on(self.device) == "float16" else self.step.autocast()

    def _composed(self, batch: Batch, image: torch.Tensor) -> torch.Tensor:
        """Background outside the body, as in a prediction: a masked L1 leaves the outside free, which betrays it."""
        return compose(image, batch.mask, self.units.network_background)
