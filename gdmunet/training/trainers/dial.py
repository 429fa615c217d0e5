"""A dial for realism: one model whose prediction goes from the most faithful to the most plausible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from gdmunet.errors import GdmError
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import Generator
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.optimizers import adamw
from gdmunet.training.trainers.schedule import learning_rate_factor
from gdmunet.training.trainers.step import Generated, Term, Terms, as_terms
from gdmunet.training.trainers.transport import GDMTrainerTransport

_APART = "faithful"


class GDMTrainerDial(GDMTrainerTransport):
    """Fidelity alone trains F; then a change H learns to bring it nearer to real images: F + realism H.

    F learns as `FidelityTrainer` does in `feature_start` of the iterations, to the end of a learning rate schedule of
    its own, and goes on from its averaged weights. H sees the condition and F. It is trained at realism 1, by the drift
    and a share of fidelity; no gradient of it reaches F. Source of the dial: every optimal compromise between error and
    distance is an interpolation of the two ends (Freirich, Michaeli, Meir, arXiv 2107.02555).
    """

    trains_in_turns: ClassVar[bool] = True

    feature_start = 0.8
    feature_every = 1  # fewer were not measured
    # At the start, of a tenth of fidelity: half of what the whole of it would have.
    calibrated_at = "start"
    calibrated_weight = 5.0
    dial_channels: int = 16
    """Channels of the convolutions that make the change."""
    dial_fidelity: float = 0.1
    """Share of the fidelity term in the training of the change."""
    faithful_rate: float = 0.0
    """Share of the learning rate with which F goes on once the change is trained, by fidelity; 0: F is frozen."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self._joining == 0 and not self.faithful_rate:
            raise GdmError(
                "the faithful part would never be trained",
                found=f"feature_start={self.feature_start}, faithful_rate={self.faithful_rate}",
                expected="feature_start above 0: the share of the iterations that train it",
                remedy="start the features later, or give the faithful part a rate",
            )
        if self.dial_fidelity <= 0:
            raise GdmError(
                "the change would never be trained",
                found=f"dial_fidelity={self.dial_fidelity}",
                expected="above 0: the drift is weighed against fidelity's gradient",
                remedy="give it a small share, such as --set dial_fidelity=0.01",
            )

    @property
    def network_spec(self) -> NetworkSpec:
        """The planned generator, and the dial."""
        return replace(self.configuration.network, dial_channels=self.dial_channels)

    def build_network(self) -> nn.Module:
        """The generator with fresh weights; its U-Net's are those of a network without a dial."""
        network = Generator(self.network_spec)
        self._unet = network.unet
        self._faithful_weights = [weight for weight in network.unet.parameters() if weight.requires_grad]
        return network

    def build_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """AdamW as for other networks; the weights of F and of H are groups of their own."""
        faithful = {id(weight) for weight in self._unet.parameters()}
        groups = []
        for of_faithful in (True, False):
            own = [weight for weight in network.parameters() if (id(weight) in faithful) == of_faithful]
            for decays in (True, False):
                chosen = [weight for weight in own if (weight.ndim > 1) == decays]
                decay = self.weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "faithful": of_faithful})
        return adamw(groups, self.device, lr=self.learning_rate, betas=self.betas)

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of a step: one schedule for F, and one for H behind it."""
        first = iteration < self._joining
        steps = self._joining if first else self.total_iterations - self._joining
        step = iteration if first else iteration - self._joining
        factor = learning_rate_factor(step, steps, round(self.warmup_share * steps), self.schedule)
        return self.learning_rate * factor

    def group_learning_rate(self, group: Mapping[str, Any]) -> float:
        """That of the step; for F, once H is trained, a share of it."""
        rate = self.learning_rate_at(self.step.iteration)
        return rate * self.faithful_rate if self.features_joined and group["faithful"] else rate

    def starts_from_average(self) -> bool:
        """H learns on what a prediction gives it: F by its averaged weights."""
        return self.step.iteration == self._joining > 0

    def improves(self, error: float, best: float) -> bool:
        """The error is that of F: it says nothing about H, of which the newest is the best."""
        return self.features_joined or super().improves(error, best)

    def generate(self, batch: Batch) -> Generated:
        """F; once H is trained, the prediction at realism 1, of which F is a constant."""
        joined = self.features_joined
        frozen = joined and not self.faithful_rate
        for weight in self._faithful_weights:
            weight.requires_grad_(not frozen)
        if frozen:
            self._unet.eval()
        if not joined:
            return Generated(self.step.network(batch.condition))
        faithful, change = self.step.network(batch.condition, None)
        return Generated(faithful.detach() + change, {} if frozen else {_APART: faithful})

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """Fidelity of F; later the drift and a share of fidelity at realism 1, and fidelity of F if that goes on."""
        terms = as_terms(super().loss_terms(batch, prediction))
        if not self.features_joined:
            return terms
        ties = {name: term for name, term in terms.items() if term.objective is None}
        scaled = {name: term for name, term in terms.items() if name not in ties}
        scaled |= {
            f"realistic_{name}": replace(term, value=self.dial_fidelity * term.value) for name, term in ties.items()
        }
        if _APART in batch.context:
            faithful = as_terms(FidelityTrainer.loss_terms(self, batch, batch.context[_APART].float()))
            scaled[_APART] = Term(torch.stack([term.value for term in faithful.values()]).sum(), objective="apart")
        return scaled

    def send(self, prediction: torch.Tensor, gradient: torch.Tensor, terms: Mapping[str, Term]) -> None:
        """In one pass: the coordinated gradient into H, and F's own into F."""
        roots, gradients = [prediction], [gradient]
        if _APART in terms:
            roots.append(terms[_APART].value)
            gradients.append(self.step.loss_scale(prediction.device) / self.accumulation)
        torch.autograd.backward(roots, gradients)

    @property
    def _joining(self) -> int:
        return self.slower_from

    def description(self) -> str:
        """The drift's description, and what becomes of F."""
        goes_on = f"goes on at {self.faithful_rate} of the learning rate" if self.faithful_rate else "is frozen"
        return f"{super().description()}; a dial for realism of {self.dial_channels} channels, then F {goes_on}"
