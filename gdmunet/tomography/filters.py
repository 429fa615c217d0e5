"""Filters of the filtered back-projection."""

from __future__ import annotations

import math

import torch

from gdmunet.scan_spec import FilterName


def filter_projections(sinogram: torch.Tensor, bin_size: float, name: FilterName = "ramp") -> torch.Tensor:
    """Filter projections (..., bins) along the detector; padded with zeros to twice their length or more."""
    bins = sinogram.shape[-1]
    length = max(64, 2 ** math.ceil(math.log2(2 * bins)))
    response = filter_response(length, bin_size, name).to(sinogram)
    filtered: torch.Tensor = torch.fft.irfft(torch.fft.rfft(sinogram, length) * response, length)
    return filtered[..., :bins]


def filter_response(length: int, bin_size: float, name: FilterName = "ramp") -> torch.Tensor:
    """Frequency response (length // 2 + 1,) for `torch.fft.rfft` of `length` samples (even), in 1/mm.

    The ramp is the transform of its band-limited kernel, which has the right mean, unlike |frequency| itself: Kak and
    Slaney, Principles of Computerized Tomographic Imaging, equation 61 of chapter 3. The windows reach
    sinc(1/2) and 0 at the highest frequency.
    """
    distance = torch.arange(length, dtype=torch.float64)
    distance = torch.minimum(distance, length - distance)
    kernel = torch.where(distance % 2 == 1, -1 / (math.pi * distance).square(), 0.0)
    kernel[0] = 0.25
    response: torch.Tensor = 2 * torch.fft.rfft(kernel).real
    frequency = torch.arange(length // 2 + 1, dtype=torch.float64) / length
    if name == "shepp-logan":
        response *= torch.sinc(frequency)
    elif name == "hann":
        response *= 0.5 + 0.5 * torch.cos(2 * math.pi * frequency)
    return response / bin_size
