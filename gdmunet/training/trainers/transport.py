"""The second version of the method: optimal transport between running moments, a constant weight, paired statistics."""

from __future__ import annotations

import torch

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.encoders.random_weights import randomise
from gdmunet.seeds import step_seed
from gdmunet.training.coordination.weightings import WeightingName
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.encoder import CalibratedAt
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.step import Terms
from gdmunet.training.trainers.tokens import Tokens, TokenTrainer


class GDMTrainerTransport(GDMTrainer):
    """Tokens move by optimal transport between running moments; the force fades as they meet: what gdm_train runs.

    Its weight counts the distance that is left when the drift joins, so that it costs less where little is to gain.
    Only every second step has the encoder: half of its cost for about the same result (documentation/benchmarks.md).
    """

    field = "transport"
    weighting = "calibrated"
    calibrated_at: CalibratedAt = "spread"
    calibrated_weight = 2.5
    feature_every = 2


class GDMTrainerTransportPaired(GDMTrainerTransport):
    """Transport, and paired statistics as an objective of their own."""

    paired_statistics = True
    feature_every = 1  # fewer were not measured
    # Paired statistics know no distance, so both objectives have the strength of their first gradients.
    calibrated_at = "start"
    calibrated_weight = 0.5


class GDMTrainerCalibrated(GDMTrainer):
    """The first version's field under a constant weight, its forces divided by the mean of their first steps."""

    weighting = "calibrated"
    drift_normalisation = "frozen"


class PairedStatisticsTrainer(TokenTrainer):
    """Fidelity, and local statistics of features against those of this patient's target; nothing drifts."""

    weighting: WeightingName = "calibrated"
    families = ("local",)

    def token_terms(self, tokens: Tokens, prediction: torch.Tensor) -> Terms:
        """Mean |difference| over the real tokens' spread, over all sets of local means and deviations."""
        sizes = self._sizes(tokens, {})
        taking_part = {key: sizes[key] for key in self._large_enough(sizes)}
        return {"paired": self._paired_term(tokens, taking_part, prediction, "features")}


class PairedStatisticsTrainerFreshEncoder(PairedStatisticsTrainer):
    """Paired statistics of random filters that are drawn anew at every step."""

    def build_encoder(self) -> FrozenEncoder:
        """Fresh weights from the trainer's seed."""
        return randomise(super().build_encoder(), self.seed)

    def feature_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """The term, after the draw, which resuming repeats."""
        randomise(self.encoder, step_seed(self.seed, self.step.iteration))
        return super().feature_terms(batch, prediction)
