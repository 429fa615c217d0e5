"""Projectors, filtered back-projection, CT values and attenuation."""
