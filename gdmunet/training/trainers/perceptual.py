"""Frozen features as a paired loss: the usual perceptual term, a baseline of the drift."""

from __future__ import annotations

import torch

from gdmunet.encoders.base import FeatureMap
from gdmunet.training import distributed
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.encoder import EncoderTrainer
from gdmunet.training.trainers.step import Terms


class PerceptualTrainer(EncoderTrainer):
    """Fidelity and the L1 distance of features, level by level, to this patient's target."""

    weighting = "adaptive"

    def compared(self, maps: tuple[FeatureMap, ...]) -> list[torch.Tensor]:
        """The values of the maps (B, C, ...) that are compared, float32."""
        return [level.values.float() for level in maps]

    def feature_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """Mean over the levels of |difference| over the mean size of the target's features, of all processes."""
        with torch.no_grad():
            real = self.compared(self.feature_maps(batch, batch.target))
        generated = self.compared(self.feature_maps(batch, prediction))
        sizes = [distributed.mean_over_ranks(level.abs().mean()).clamp(min=1e-6) for level in real]
        distances = [(a - b).abs().mean() / size for a, b, size in zip(generated, real, sizes, strict=True)]
        return {"perceptual": torch.stack(distances).mean()}
