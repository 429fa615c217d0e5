"""CUDA's automatic mixed precision for tensors anywhere: torch's own refuses meta tensors, and its CPU lists differ.

The lists of functions are those of CUDA's autocast (torch documentation, "Autocast Op Reference"), as far as networks
and losses use them; they decide in which precision a feature map is kept, and so its bytes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from gdmunet.device import Precision

_LOWER = (
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear addmm addmv addbmm baddbmm bmm mm "
    "mv matmul __matmul__ __rmatmul__ einsum prelu chain_matmul multi_dot scaled_dot_product_attention"
)
_FLOAT32 = (
    "exp expm1 log log10 log1p log2 pow __pow__ __rpow__ reciprocal rsqrt softplus softmax log_softmax logsumexp norm "
    "layer_norm group_norm cosine_similarity cdist cumsum cumprod prod sum dist renorm l1_loss smooth_l1_loss "
    "huber_loss mse_loss kl_div nll_loss cross_entropy binary_cross_entropy_with_logits interpolate"
)


class CudaAutocast(TorchFunctionMode):
    """Inside, convolutions and products run in `dtype`, and what needs range runs in float32.

    A float32 parameter is cast once per context, as in torch.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self._lowered, self._raised = frozenset(_LOWER.split()), frozenset(_FLOAT32.split())
        self._casts: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        cast = self._lower if name in self._lowered else _to_float32 if name in self._raised else None
        if cast is not None:
            args, kwargs = tree_map_only(torch.Tensor, cast, (args, kwargs))
        return func(*args, **kwargs)

    def __exit__(self, *error: Any) -> None:
        self._casts.clear()
        untyped: Any = super()  # torch gives this method no types
        untyped.__exit__(*error)

    def _lower(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(self.dtype)
        if id(tensor) not in self._casts:
            self._casts[id(tensor)] = tensor.to(self.dtype)
        return self._casts[id(tensor)]


def as_on_cuda(precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision as a CUDA device has it, for tensors on any device; nothing for float32."""
    return contextlib.nullcontext() if precision == "float32" else CudaAutocast(getattr(torch, precision))


def _to_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
