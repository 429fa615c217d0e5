"""Gradients of several objectives meet in the generator's output."""

from gdmunet.training.coordination.coordinator import Coordinator, coordinate, output_gradient
from gdmunet.training.coordination.weightings import WEIGHTINGS, WeightingOptions

__all__ = ["WEIGHTINGS", "Coordinator", "WeightingOptions", "coordinate", "output_gradient"]
