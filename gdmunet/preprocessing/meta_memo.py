"""Operations on meta tensors, each kind run once: torch finds the shapes of results in Python, most of a count's time.

A step repeats the same few hundred operations on the same shapes: block by block, temperature by temperature, step by
step. What one returns without data follows from the shapes of its arguments, so from the second time on a tensor of the
remembered shape is made at once. What is done in place makes nothing and is not run at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

Signature = tuple[Any, ...]
RunOperation = Callable[[Any, Sequence[Any], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class _Shape:
    """Of a new tensor."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def make(self) -> torch.Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device="meta")


@dataclass(frozen=True)
class _Result:
    """What an operation returns: new tensors and None, nested as `layout` says."""

    parts: tuple[_Shape | None, ...]
    layout: TreeSpec

    def make(self) -> Any:
        return tree_unflatten([part and part.make() for part in self.parts], self.layout)


class ShapeMemo:
    """Runs operations with `run`, and remembers the shapes of what they return."""

    def __init__(self, run: RunOperation) -> None:
        self._run = run
        self._results: dict[Signature, _Result | None] = {}

    def __call__(self, operation: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """What the operation returns, or a tensor like it where neither its arguments nor its result have data."""
        signature = [operation]
        if not (_describe(arguments, signature) | _describe(named.items(), signature)) or _HAS_DATA in signature:
            return self._run(operation, arguments, named)
        if _only_writes(operation):
            return arguments[0] if operation._schema.returns else None
        key = tuple(signature)
        if key not in self._results:
            result = self._run(operation, arguments, named)
            self._results[key] = _remembered(operation, arguments, named, result)
            return result
        remembered = self._results[key]
        return self._run(operation, arguments, named) if remembered is None else remembered.make()


_HAS_DATA = object()


def _describe(values: Any, into: list[Any]) -> bool:
    """Append what a result's shape can depend on; whether there is a tensor without data."""
    without_data = False
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.is_meta:
                without_data = True
                into += (value.shape, value.stride(), value.dtype)
            else:
                into.append(_HAS_DATA)
        elif isinstance(value, (list, tuple)):
            into.append(len(value))
            without_data |= _describe(value, into)
        else:
            into += (type(value), value)
    return without_data


def _only_writes(operation: Any) -> bool:
    """Whether it fills its first argument, whose shape stays."""
    schema = operation._schema
    in_place = schema.name.endswith("_") and len(schema.returns) <= 1
    return in_place and torch.Tag.inplace_view not in operation.tags


def _remembered(operation: Any, arguments: Sequence[Any], named: Mapping[str, Any], result: Any) -> _Result | None:
    """None for what is not new: views, arguments that are written to, and values."""
    if operation._schema.is_mutable:
        return None
    storages = {
        leaf.untyped_storage()._cdata
        for leaf in tree_leaves((arguments, dict(named)))
        if isinstance(leaf, torch.Tensor)
    }
    values, layout = tree_flatten(result)
    parts: list[_Shape | None] = []
    for value in values:
        if value is None:
            parts.append(None)
            continue
        if not isinstance(value, torch.Tensor) or not value.is_meta:
            return None
        storage = value.untyped_storage()
        shape = _Shape(tuple(value.shape), value.stride(), value.dtype)
        if storage._cdata in storages or storage.nbytes() != shape.make().untyped_storage().nbytes():
            return None
        storages.add(storage._cdata)
        parts.append(shape)
    return _Result(tuple(parts), layout)
