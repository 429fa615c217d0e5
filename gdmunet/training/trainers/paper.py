"""The method as the abstract of the paper describes it, whatever the default of gdmunet is."""

from __future__ import annotations

from gdmunet.training.trainers.gdm import GDMTrainer


class GDMTrainerPaper(GDMTrainer):
    """Plausible reading of arXiv 2604.19736, of which the abstract alone is open, with the constants of 2602.04770.

    The official field with its floor at three temperatures, all levels of the planned encoder (plan with ``-encoder
    medvae-4x-3d`` for the paper's kind), spatial, local and global tokens, each sample's own target and the bank
    among its positives, and MGDA on unit gradients, from the start except for a short warm-up.
    """

    feature_start = 0.05
    drift_stride = 64
    families = ("spatial", "local", "global")
    minimum_tokens = 2  # global tokens, one for each patch, take part
    field = "official"
    affinity_floor = 1e-6
    temperatures = (0.02, 0.05, 0.2)
    drift_normalisation = "batch"
    pairs = "unmatched"
    bank_side = "positives"
    weighting = "mgda"
    normalise = "l2"
