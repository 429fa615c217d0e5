"""The drift loss: generated features move onto the distribution of real ones."""

from gdmunet.training.drift.loss import DriftField, drift_loss
from gdmunet.training.drift.options import FIELDS, DriftOptions

__all__ = ["FIELDS", "DriftField", "DriftOptions", "drift_loss"]
