"""Training with a frozen encoder beside the generator: its start, its input, and the combination of its gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch

from gdmunet.composition import compose
from gdmunet.encoders.base import FeatureMap, FrozenEncoder
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel, EncoderSpec
from gdmunet.training.coordination.coordinator import Coordinator, output_gradient
from gdmunet.training.coordination.weightings import WeightingName, WeightingOptions
from gdmunet.training.coordination.weights import GradientNormalisation
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.step import Term, Terms, as_terms

CalibratedAt = Literal["start", "spread"]


class EncoderTrainer(FidelityTrainer):
    """Fidelity first; later a term over the features of a frozen encoder joins, coordinated in the output space.

    A subclass defines `feature_terms`. Gradients of fidelity and of the feature terms are taken with respect to the
    prediction alone, combined there, and go through the generator in one backward pass.
    """

    uses_encoder: ClassVar[bool] = True

    feature_start: float = 0.6
    """Share of the iterations with fidelity alone, before the encoder's term joins."""
    feature_every: int = 1
    """Steps for which the encoder's term counts: 2, it takes part in every second step, with twice its weight."""
    weighting: WeightingName = "sum"
    """How the two gradients become one."""
    normalise: GradientNormalisation = "none"
    """Bring the gradients to unit length before they are weighted."""
    adaptive_weight: float = WeightingOptions.beta
    """Strength of the feature term under the weighting ``adaptive``."""
    calibrated_weight: float = WeightingOptions.kappa
    """Strength of the feature term under the weighting ``calibrated``."""
    calibration_steps: int = WeightingOptions.calibration_steps
    """Steps with the feature term over which the weighting ``calibrated`` is measured; then it is constant."""
    calibrated_at: CalibratedAt = "start"
    """Force whose strength `calibrated_weight` is: that of the ``start``, whatever is left to do, or one that has a
    ``spread`` of the real tokens to go. Under the latter a force with less to do is weaker from its first step on."""
    cagrad_radius: float = WeightingOptions.radius
    """Distance from the mean gradient under the weighting ``cagrad``, as a share of its length; 0 to below 1."""
    objectives: Literal["two", "levels"] = "two"
    """Coordinate fidelity with the sum of the feature terms, or with each of them; paired statistics, if they are
    wanted, are an objective of their own under both."""
    per_sample: bool = False
    """Coordinate every patch by itself instead of the whole batch."""
    gramian_ema: float = 0.0
    """Moving average of the gradients' inner products over the steps; 0: those of the step alone."""

    # ---- what a subclass may override -------------------------------------------------------------------------

    def build_encoder(self) -> FrozenEncoder:
        """The encoder that the plans chose."""
        if self.load_encoder is None:
            raise TypeError(f"{type(self).__name__} was built without a loader of encoders")
        return self.load_encoder(self.encoder_spec, self.units)

    @classmethod
    def used_levels(cls, levels: tuple[EncoderLevel, ...]) -> tuple[EncoderLevel, ...]:
        """The levels of the encoder that the terms read; what only later ones need is not computed."""
        return levels

    @abstractmethod
    def feature_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """Named losses over the encoder's features, scalars or `Term`; called once the encoder has joined."""

    # ---- the rest ---------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """The frozen encoder, and the coordination of its gradient with the fidelity's."""
        super().prepare()
        encoder = self.build_encoder().freeze()
        self.encoder = encoder.stop_after(self.used_levels(encoder.levels)).to(self.device)
        self.coordinator = Coordinator(
            self.weighting,
            self.normalise,
            per_sample=self.per_sample,
            gramian_ema=self.gramian_ema,
            every=self.feature_every,
            options=WeightingOptions(
                beta=self.adaptive_weight,
                radius=self.cagrad_radius,
                kappa=self.calibrated_weight,
                calibration_steps=self.calibration_steps,
            ),
        )

    @property
    def encoder_spec(self) -> EncoderSpec:
        """The encoder of the plans."""
        if self.configuration.encoder is None:
            raise TypeError(f"{type(self).__name__} was built for a configuration without a frozen encoder")
        return self.configuration.encoder

    @property
    def features_joined(self) -> bool:
        """Whether the encoder's term takes part from now on."""
        return self.step.iteration >= self.slower_from

    @property
    def features_counted(self) -> bool:
        """Whether the encoder's term takes part in the present step."""
        to_the_last = self.total_iterations - 1 - self.step.iteration
        return self.features_joined and to_the_last % self.feature_every == 0

    @property
    def slower_from(self) -> int:
        """Step at which the encoder joins."""
        return round(self.feature_start * self.total_iterations)

    def description(self) -> str:
        """The encoder, its source, and its start."""
        spec = self.encoder_spec
        levels = ", ".join(f"{level.name} {level.channels}@{'x'.join(map(str, level.stride))}" for level in spec.levels)
        return (
            f"encoder {spec.spec} (sha256 {spec.sha256[:12]}, {spec.licence}): {levels}; joins at iteration "
            f"{self.slower_from} of {self.total_iterations}"
        )

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """Fidelity, and the feature terms in the steps that they take part in."""
        terms = super().loss_terms(batch, prediction)
        if not self.features_counted:
            return terms
        return {**terms, **as_terms(self.feature_terms(batch, prediction), "features")}

    def combine(self, terms: Mapping[str, Term], prediction: torch.Tensor) -> None:
        """Coordinate the gradients in the output space; one backward pass through the generator."""
        groups = self._objectives(terms)
        if len(groups) == 1:
            super().combine(terms, prediction)
            return
        scale = self.step.loss_scale(prediction.device)
        # Unscaled float32 gradients are coordinated; the scale comes back for the way through the generator.
        gradients = [
            output_gradient(loss, prediction, loss_scale=scale, keep_graph=number < len(groups))
            for number, loss in enumerate(groups, start=1)
        ]
        coordinated = self.coordinator.combine(gradients, reach=self._reach(terms, len(groups)))
        self.step.note("norm_fidelity", coordinated.norms[..., 0].mean())
        self.step.note("norm_features", coordinated.norms[..., 1:].mean())
        self.step.note("cosine", coordinated.cosine)
        self.step.note("lambda", coordinated.shares[0])
        direction = coordinated.direction * (scale / self.accumulation)
        self.send(prediction, direction.to(prediction.dtype), terms)

    def send(self, prediction: torch.Tensor, gradient: torch.Tensor, terms: Mapping[str, Term]) -> None:
        """Send the coordinated gradient of the prediction into the generator; terms ``apart`` would go along."""
        del terms
        prediction.backward(gradient=gradient)

    def feature_maps(self, batch: Batch, volume: torch.Tensor) -> tuple[FeatureMap, ...]:
        """Features of a volume (B, 1, ...) composed with background outside the body, as prediction composes it.

        A masked fidelity loss leaves the outside free; features of the structures there would dominate the rest.
        """
        composed = compose(volume, batch.mask, self.encoder.units.network_background)
        with self.step.autocast():
            maps: tuple[FeatureMap, ...] = self.encoder(composed)
        return maps

    def extra_state(self) -> dict[str, Any]:
        """The encoder's hash, so that no other continues the run, and the coordination's averages."""
        own = {"encoder_sha256": self.encoder_spec.sha256, "coordinator": self.coordinator.state()}
        return super().extra_state() | own

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take back what `extra_state` gave; another encoder is refused."""
        super().load_extra_state(extra)
        if extra["encoder_sha256"] != self.encoder_spec.sha256:
            raise GdmError(
                "the encoder has changed since the checkpoint",
                found=f"{self.encoder_spec.spec} with sha256 {self.encoder_spec.sha256[:12]}",
                expected=f"sha256 {extra['encoder_sha256'][:12]}",
                remedy="plan again with the encoder of the checkpoint, or start over with --overwrite",
            )
        self.coordinator.load_state(extra["coordinator"])

    @classmethod
    def bank_bytes(cls, encoder: FrozenEncoder, patch_size: tuple[int, ...]) -> int:
        """Bytes of what a trainer keeps of the encoder's features from step to step."""
        return 0

    def _reach(self, terms: Mapping[str, Term], objectives: int) -> torch.Tensor | None:
        """Distance (m,) that is left to each of the coordinated objectives; 1 for those that know none."""
        if self.calibrated_at == "start":
            return None
        left = [term.reach for term in terms.values() if term.objective == "features" and term.reach is not None]
        if not left:
            return None
        drifting = objectives - 1 if self.objectives == "two" else objectives - len(left)
        ones = torch.ones_like(left[0])
        return torch.stack([ones] * drifting + (left[:1] if self.objectives == "two" else left))

    def _objectives(self, terms: Mapping[str, Term]) -> list[torch.Tensor]:
        """The losses whose gradients are coordinated: fidelity's, and what the encoder adds once it has joined."""
        fidelity = [term.value for term in terms.values() if term.objective in (None, "fidelity")]
        statistics = [term.value for term in terms.values() if term.objective == "statistics"]
        features = [term.value for term in terms.values() if term.objective == "features"]
        single = features if self.objectives == "levels" else []
        groups = [fidelity, statistics, *([one] for one in single)] if single else [fidelity, statistics, features]
        return [torch.stack(group).sum() for group in groups if group]
