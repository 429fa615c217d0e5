"""From a Gramian to the weights of its gradients: normalisation, gradients that are zero or not finite."""

from __future__ import annotations

from typing import Literal

import torch

from gdmunet.training.coordination.weightings import STATIONARY, WEIGHTINGS, WeightingName, WeightingOptions

ZERO = 1e-36  # squared lengths below it are at the end of what float32 holds
GradientNormalisation = Literal["l2", "none"]


def weights_of(
    products: torch.Tensor, weighting: WeightingName, normalise: GradientNormalisation, options: WeightingOptions
) -> torch.Tensor:
    """Weights (m,) of the gradients with that Gramian (m, m); (B, m) of several.

    Elementwise weightings are computed where the Gramian lies, and the host does not wait for it; others ask for it on
    the CPU. Where a product is not finite, all weights are NaN.
    """
    if WEIGHTINGS[weighting].elementwise:
        return _elementwise(products, weighting, normalise, options)
    if products.ndim == 2:
        return _by_host(products, weighting, normalise, options)
    return torch.stack([_by_host(one, weighting, normalise, options) for one in products])


def _elementwise(
    products: torch.Tensor, weighting: WeightingName, normalise: GradientNormalisation, options: WeightingOptions
) -> torch.Tensor:
    squares = products.diagonal(dim1=-2, dim2=-1)
    active = squares > ZERO
    norms = torch.where(active, squares.clamp_min(0).sqrt(), 1.0)
    seen = products / (norms.unsqueeze(-1) * norms.unsqueeze(-2)) if normalise == "l2" else products
    shares = WEIGHTINGS[weighting].weigh(seen, options)
    if normalise == "l2":
        first = active.to(torch.uint8).argmax(-1, keepdim=True)
        shares = shares * norms.gather(-1, first) / norms
    shares = torch.where(active.any(-1, keepdim=True), shares, 0.0)
    return torch.where(products.isfinite().flatten(-2).all(-1, keepdim=True), shares, torch.nan)


def _by_host(
    products: torch.Tensor, weighting: WeightingName, normalise: GradientNormalisation, options: WeightingOptions
) -> torch.Tensor:
    if not products.isfinite().all():
        return torch.full_like(products[0], torch.nan)
    weights = torch.zeros_like(products[0])
    active = (products.diagonal() > ZERO).nonzero().squeeze(1)
    if not len(active):
        return weights
    used = products[active][:, active]
    length = used[0, 0].sqrt()
    norms = used.diagonal().sqrt()
    seen = used / norms.outer(norms) if normalise == "l2" else used
    shares = WEIGHTINGS[weighting].weigh(seen, options)
    if normalise == "l2":
        shares = shares * length / norms
    if weighting == "mgda":
        shares = _of_length(shares, used, length)
    weights[active] = shares
    return weights


def _of_length(weights: torch.Tensor, products: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Rescaled to that length; zero where the combination is zero up to round-off."""
    squared = weights @ products @ weights
    shortest = (weights * products.diagonal().sqrt()).abs().max().square()
    return torch.zeros_like(weights) if squared <= STATIONARY * shortest else weights * length / squared.sqrt()
