"""Computed tomography in torch: projectors, filtered back-projection, HU and attenuation."""
