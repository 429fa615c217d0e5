"""Photon statistics of a sinogram."""

from __future__ import annotations

import torch

from gdmunet.scan_spec import ScanSpec, case_generator

# A detector element that counts nothing, or less than nothing for its electronics, still gives a finite value.
FEWEST_PHOTONS = 0.5


def add_noise(sinogram: torch.Tensor, settings: ScanSpec, identifier: str) -> torch.Tensor:
    """Line integrals as a detector would measure them, in float32; unchanged where `settings` ask for no noise.

    Each ray counts Poisson-distributed photons about ``I0 exp(-p)`` plus normal electronic noise, and gives
    ``-log(counts / I0)``. The numbers depend on the seed and the case's name alone.
    """
    if settings.photons is None:
        return sinogram
    rng = case_generator(settings.seed, identifier, "noise")
    measured = torch.empty(sinogram.shape)
    for row, rays in zip(measured, sinogram.cpu(), strict=True):  # slice by slice: no float64 copy of all
        counts = rng.poisson(settings.photons * torch.exp(-rays.double()).numpy()).astype(float)
        counts += rng.normal(0.0, settings.electronic_noise, counts.shape)
        row[...] = -torch.log(torch.from_numpy(counts).clamp(min=FEWEST_PHOTONS) / settings.photons)
    return measured.to(sinogram.device)
