"""What a tensor without data answers when a step asks for its values.

Meta tensors have shapes and lifetimes and no data, so a step that draws places from a mask, reports a number or asks
whether all is finite could not run on them. Here every value is one: a mask is full of body, a check of finiteness
holds, a selection takes everything. For memory that is the upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

_aten = torch.ops.aten


def is_meta(value: Any) -> bool:
    """Whether `value` is a tensor without data."""
    return isinstance(value, torch.Tensor) and value.is_meta


def answer(operation: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """The result of an operation that asks a meta tensor for its values; NotImplemented for every other operation.

    Answered are ``item``, ``bool``, ``float``, ``tolist`` and copies to a real device (ones), ``nonzero``,
    ``masked_select`` and indexing with a mask (every place).
    """
    if not arguments or not any(map(is_meta, arguments)):
        return NotImplemented
    first = arguments[0]
    if operation is _aten._local_scalar_dense.default:
        return torch.ones((), dtype=first.dtype).item()
    if operation is _aten._to_copy.default and _leaves_meta(named):
        return torch.ones(first.shape, dtype=named.get("dtype") or first.dtype, device=named["device"])
    if operation is _aten.copy_.default and not is_meta(first):
        return first.fill_(1)
    if operation is _aten.nonzero.default:
        return first.new_empty((first.numel(), first.ndim), dtype=torch.int64)
    if operation is _aten.masked_select.default:
        return first.new_empty((math.prod(torch.broadcast_shapes(first.shape, arguments[1].shape)),))
    if operation is _aten.index.Tensor:
        return _indexed(first, arguments[1])
    return NotImplemented


def _leaves_meta(named: Mapping[str, Any]) -> bool:
    device = named.get("device")
    return device is not None and torch.device(device).type != "meta"


def _indexed(values: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> Any:
    """Indexing with masks takes every place; other indices have a shape of their own."""
    if not any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
        return NotImplemented
    places: list[torch.Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            places.append(index)
        else:
            places += [values.new_empty(index.numel(), dtype=torch.int64) for _ in range(index.ndim)]
    return _aten.index.Tensor(values, places)
