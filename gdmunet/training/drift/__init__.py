"""The drift loss: generated features move onto the distribution of real ones."""

from gdmunet.training.drift.loss import drift_loss

__all__ = ["drift_loss"]
