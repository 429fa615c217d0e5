"""Gradients of several objectives meet in the generator's output."""

from gdmunet.training.coordination.coordinator import Coordinator, coordinate, output_gradient

__all__ = ["Coordinator", "coordinate", "output_gradient"]
