"""A generator's output layer, which computes in float32 also within mixed precision.

Half precision has 8 or 11 bits: its nearest numbers lie some HU apart in bone. The features come in half precision all
the same, and a float32 copy of them would take an eighth of a step's memory: they are widened piece by piece.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from gdmunet.device import full_precision

# Pieces along the first axis in space; their number is the same for every size of patch and batch, as the memory
# count wants it.
_PIECES = 8


def computes_in_float32(layer: nn.Conv2d | nn.Conv3d) -> None:
    """Let a convolution of one voxel give float32, whatever the type of its features and the autocast around it."""
    layer.forward = functools.partial(_wide, layer)  # type: ignore[method-assign]


def _wide(layer: nn.Conv2d | nn.Conv3d, features: torch.Tensor) -> torch.Tensor:
    # A mode of functions that imitates autocast (the memory count has one) leaves alone what handles itself.
    if has_torch_function_unary(features):
        handled: torch.Tensor = handle_torch_function(_wide, (features,), layer, features)
        return handled
    with full_precision(features.device):
        if features.dtype == layer.weight.dtype:
            own: Any = type(layer)
            result: torch.Tensor = own.forward(layer, features)
        else:
            product: Any = _WidenedProduct.apply
            result = product(features, layer.weight, layer.bias)
    return result


class _WidenedProduct(torch.autograd.Function):
    """Product over the channels of half-precision features (B, C, ...) in float32; only the features are kept."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(B, C, ...), (O, C, 1, ...), (O,) -> (B, O, ...)."""
        ctx.save_for_backward(features, weight)
        result = weight.new_empty(len(features), len(weight), *features.shape[2:])
        for piece, place in zip(_pieces(features), _pieces(result), strict=True):
            product = torch.baddbmm(bias[:, None], _of_each(weight, features), piece.flatten(2).to(weight.dtype))
            place.copy_(product.view(place.shape))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of features, weight and bias."""
        features, weight = ctx.saved_tensors
        of_features, weights = torch.empty_like(features), _of_each(weight, features)
        of_weights = torch.zeros_like(weights, memory_format=torch.contiguous_format)
        with full_precision(features.device):
            for piece, slope, place in zip(*map(_pieces, (features, gradient, of_features)), strict=True):
                slope = slope.flatten(2)
                of_weights.baddbmm_(slope, piece.flatten(2).to(weight.dtype).transpose(1, 2))
                place.copy_(torch.bmm(weights.transpose(1, 2), slope).view(place.shape))
        return of_features, of_weights.sum(0).view_as(weight), gradient.transpose(0, 1).flatten(1).sum(1)


def _of_each(weight: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The weight (O, C, 1, ...) as (B, O, C), without a copy: one product of a batch starts one kernel."""
    return weight.flatten(1).expand(len(features), -1, -1)


def _pieces(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.tensor_split(_PIECES, dim=2)
