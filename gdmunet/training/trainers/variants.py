"""Named ablations of the method: each changes one thing."""

from __future__ import annotations

import torch

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.encoders.random_weights import randomise
from gdmunet.seeds import step_seed
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.step import Terms


class GDMTrainerNoDrift(GDMTrainer):
    """The encoder never joins: fidelity alone, with everything else of the method in place."""

    feature_start = 1.0


class GDMTrainerNoCoordination(GDMTrainer):
    """The two gradients are added, as in `DriftTrainer`, whose default may change."""

    weighting = "sum"


class GDMTrainerAdaptive(GDMTrainer):
    """The drift's gradient is scaled to the fidelity's size, times `adaptive_weight`, whatever the default is."""

    weighting = "adaptive"


class GDMTrainerMGDA(GDMTrainer):
    """The shortest convex combination of the two unit gradients."""

    weighting = "mgda"
    normalise = "l2"


class GDMTrainerPCGrad(GDMTrainer):
    """Each gradient loses what opposes the other; both at unit length."""

    weighting = "pcgrad"
    normalise = "l2"


class GDMTrainerGlobal(GDMTrainer):
    """Global tokens alone. They are few: accumulate, or plan a larger batch."""

    families = ("global",)
    minimum_tokens = 2


class GDMTrainerLocal(GDMTrainer):
    """Local tokens alone."""

    families = ("local",)


class GDMTrainerSpatial(GDMTrainer):
    """Spatial tokens alone."""

    families = ("spatial",)


class GDMTrainerNoBank(GDMTrainer):
    """Positives are the batch's own real tokens."""

    bank_patches = 0


class GDMTrainerOneTemperature(GDMTrainer):
    """One kernel temperature."""

    temperatures = (0.05,)


class GDMTrainerRandomEncoder(GDMTrainer):
    """The same encoder with random weights: does pretraining matter?"""

    def build_encoder(self) -> FrozenEncoder:
        """Fresh weights from the trainer's seed."""
        return randomise(super().build_encoder(), self.seed)


class GDMTrainerFreshEncoder(GDMTrainerRandomEncoder):
    """Random weights drawn anew at every step, so that the generator learns nothing that only one encoder sees."""

    bank_patches = 0  # earlier tokens are those of other weights

    def feature_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """The drift's terms, after the draw, which resuming repeats."""
        randomise(self.encoder, step_seed(self.seed, self.step.iteration))
        return super().feature_terms(batch, prediction)


class GDMTrainerSharpField(GDMTrainer):
    """The conservative field of sharpened kernels."""

    field = "sharp"


class GDMTrainerLogKDE(GDMTrainer):
    """A loss whose value says how far the distributions are; its gradient is the sharp field."""

    field = "logkde"


class GDMTrainerSinkhorn(GDMTrainer):
    """Affinities balanced over rows and columns."""

    field = "sinkhorn"


class GDMTrainerGaussian(GDMTrainer):
    """A Gaussian kernel instead of Laplace's."""

    kernel = "gaussian"
