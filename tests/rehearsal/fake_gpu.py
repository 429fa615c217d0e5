"""Fake tensors on ``cuda:0``: a shape, a dtype and a device, and no values.

PyTorch's own rules say which devices and dtypes may meet and what autocast makes of them. What asks for a value is
answered with a plausible one and counted: on a GPU the host would wait for it. Load `stand_in` before torch.
"""

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.cuda.amp.common
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)  # with its number: "cuda" alone asks the driver for the present device
PACKAGE = "gdmunet"
_aten = torch.ops.aten
# They reserve memory, or read it in another way; no kernel runs.
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "resize_", "set_",
         "_unsafe_view"}  # fmt: skip
_NUMPY = {
    torch.float32: np.float32, torch.float64: np.float64, torch.float16: np.float16, torch.int64: np.int64,
    torch.int32: np.int32, torch.uint8: np.uint8, torch.bool: np.bool_,
}  # fmt: skip


@dataclass
class Counts:
    """What a stretch of work asked of the device.

    Attributes
    ----------
    waits, uploads
        By the line of the package that asked: for a value, or for a copy of the host's memory.
    kernels
        By name; reserving memory, or reading it in another way, is not one.
    dtypes
        Kinds of products, and the type of their result.
    """

    waits: Counter = field(default_factory=Counter)
    uploads: Counter = field(default_factory=Counter)
    kernels: Counter = field(default_factory=Counter)
    dtypes: Counter = field(default_factory=Counter)


class Watch(TorchDispatchMode):
    """Answers what asks for a value; counts waits of the host, copies to the device, and kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.page_locked: set[int] = set()

    def restart(self) -> Counts:
        """Count anew; gives what was counted until now."""
        counts, self.counts = self.counts, Counts()
        return counts

    def wait(self, why: str, tensor: torch.Tensor | None = None) -> None:
        """The host waits, for a tensor if that lies on the device."""
        if tensor is None or tensor.device.type == "cuda":
            self.counts.waits[f"{_site()} ({why})"] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        kwargs = kwargs or {}
        _check_generator(kwargs)
        if torch.is_inference_mode_enabled() and func.namespace == "aten":
            # There, operations come as they are written, and not in their parts.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if (answer := self._value(func, args, kwargs)) is not None:
            return answer
        self._count_copy(func, args, kwargs)
        result = func(*args, **kwargs)
        self._count_kernel(func, args, kwargs, result)
        return result

    def _value(self, func, args, kwargs):
        """The answer to an operation whose result depends on values; None: it is another operation."""
        if func is _aten._local_scalar_dense.default:
            self.wait("item", args[0])
            return plausible(args[0].dtype)
        if func in (_aten.is_nonzero.default, _aten.equal.default):
            self.wait("bool", args[0])
            return True
        if func is _aten.nonzero.default:
            self.wait("nonzero", args[0])
            return args[0].new_zeros((args[0].numel(), args[0].ndim), dtype=torch.int64)
        if func is _aten.masked_select.default:
            self.wait("masked_select", args[0])
            return args[0].new_zeros(args[0].numel())
        if func is _aten.bincount.default:
            self.wait("bincount", args[0])
            least = args[2] if len(args) > 2 else kwargs.get("minlength", 0)
            return args[0].new_zeros(max(int(least), 1), dtype=torch.int64)
        if func is _aten.index.Tensor:
            return self._masked(args[0], args[1])
        return None

    def _masked(self, values, indices):
        """Indexing with a mask takes every place."""
        masks = [index for index in indices if index is not None and index.dtype in (torch.bool, torch.uint8)]
        if not masks:
            return None
        self.wait("mask as index", masks[0])
        places = []
        for index in indices:
            known = index is None or index.dtype not in (torch.bool, torch.uint8)
            zeros = [] if known else [values.new_zeros(index.numel(), dtype=torch.int64) for _ in range(index.ndim)]
            places += [index] if known else zeros
        return _aten.index.Tensor(values, places)

    def _count_copy(self, func, args, kwargs) -> None:
        if func is _aten._to_copy.default and kwargs.get("device") is not None:
            source, target = args[0], torch.device(kwargs["device"])
            flows_on = bool(kwargs.get("non_blocking"))  # PyTorch then copies into page-locked memory
        elif func is _aten.copy_.default:
            source, target = args[1], args[0].device
            flows_on = (kwargs.get("non_blocking") or args[2:] == (True,)) and _storage(args[0]) in self.page_locked
        else:
            return
        if source.device.type == "cuda" and target.type == "cpu" and not flows_on:
            self.wait("copy to the host", source)
        if source.device.type == "cpu" and target.type == "cuda":
            self.counts.uploads[_site()] += 1

    def _count_kernel(self, func, args, kwargs, result) -> None:
        name = func.overloadpacket.__name__
        if func.is_view or func.namespace != "aten" or name in _FREE:
            return
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        if any(tensor.device.type == "cuda" for tensor in tensors):
            self.counts.kernels[name] += 1
            made = next((t for t in tree_leaves(result) if isinstance(t, torch.Tensor)), None)
            if made is not None and name in ("convolution", "mm", "bmm", "addmm", "baddbmm"):
                self.counts.dtypes[f"{name} {str(made.dtype).removeprefix('torch.')}"] += 1


class HostValues(TorchFunctionMode):
    """``numpy`` of a fake tensor: ones on the CPU, PyTorch's error on the GPU. Notes what memory is page-locked."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        del types
        name = getattr(func, "__name__", "")
        if name in ("numpy", "__array__") and isinstance(args[0], torch.Tensor):
            if args[0].device.type == "cuda":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if args[0].requires_grad:
                raise RuntimeError("can't call numpy() on a tensor that requires grad")
            if args[0].dtype not in _NUMPY:
                raise TypeError(f"numpy has no {args[0].dtype}")
            return np.ones(tuple(args[0].shape), _NUMPY[args[0].dtype])
        kwargs = kwargs or {}
        page_locked = kwargs.pop("pin_memory", False) or name == "pin_memory"
        made = args[0] if name == "pin_memory" else func(*args, **kwargs)
        if page_locked:
            self.watch.page_locked.add(_storage(made))
        return made


def plausible(dtype: torch.dtype) -> bool | int | float:
    """A value that a mask full of body, a finite number or a place may have."""
    return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 0


def faked(module: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    """A copy of a real module with fake weights on the CPU."""
    memo = {id(weight): weight for weight in [*module.parameters(), *module.buffers()]}
    return _replace_weights(copy.deepcopy(module, memo), lambda value: mode.from_tensor(value.detach()))


@contextlib.contextmanager
def rehearsal() -> Iterator[Watch]:
    """Inside, every new tensor is fake, and GPU work runs by PyTorch's rules and is counted."""
    watch = Watch()
    with _believing_in_a_gpu(watch), FakeTensorMode(allow_non_fake_inputs=True) as mode, watch, HostValues(watch):
        watch.mode = mode
        yield watch


@contextlib.contextmanager
def _believing_in_a_gpu(watch: Watch) -> Iterator[None]:
    """torch sees a GPU with bfloat16 where autocast asks; a fake tensor's list is one transfer, as a real one's is."""

    def tolist(tensor: FakeTensor) -> list:
        watch.wait("tolist", tensor)
        return np.full(tuple(tensor.shape), plausible(tensor.dtype)).tolist()

    class Event:
        """It is there at once; the host that waits for it is counted."""

        def record(self, _stream: object = None) -> None:
            """Nothing runs."""

        def synchronize(self) -> None:
            watch.wait("event")

    replaced = [
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.nn.Module, "_apply", _replace_weights),
        (torch.cuda, "is_bf16_supported", lambda **_: True),
        (FakeTensor, "tolist", tolist),
        (FakeTensor, "__deepcopy__", _copied),
        (torch.cuda, "Event", Event),
        (torch.cuda, "current_stream", lambda *_: None),
        (torch.cuda, "mem_get_info", lambda *_: (int(70e9), int(80e9))),
        (torch.cuda, "memory_reserved", lambda *_: 0),
        (torch.cuda, "max_memory_allocated", lambda *_: 0),
        (torch.cuda, "default_generators", (torch.Generator(GPU),)),
        (torch.cuda, "get_rng_state", lambda *_: None),
        (torch.cuda, "set_rng_state", lambda *_: None),
        # They ask for the very type of a tensor before they take many at once.
        (torch.nn.utils.clip_grad, "_has_foreach_support", lambda *_: True),
    ]
    torch._C._ensureCUDADeviceGuardSet()
    saved = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(replaced, saved, strict=True):
            setattr(owner, name, value)


def _replace_weights(module: torch.nn.Module, function, recurse: bool = True) -> torch.nn.Module:
    """``Module._apply`` for fake weights, which torch cannot change in place."""
    for part in module.modules() if recurse else [module]:
        for name, value in part._parameters.items():
            if value is not None:
                with torch.no_grad():
                    moved = function(value)
                part._parameters[name] = torch.nn.Parameter(moved, requires_grad=value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = function(value)
    return module


def _copied(tensor: FakeTensor, memo: dict[int, object]) -> torch.Tensor:
    """``copy.deepcopy`` of a fake tensor, whose memory must not be touched."""
    copied: torch.Tensor = tensor.detach().clone()
    if isinstance(tensor, torch.nn.Parameter):
        copied = torch.nn.Parameter(copied, requires_grad=tensor.requires_grad)
    memo[id(tensor)] = copied
    return copied


def _storage(tensor: torch.Tensor) -> int:
    """The memory of a tensor and of its views."""
    storage: int = tensor.untyped_storage()._cdata
    return storage


def _check_generator(kwargs) -> None:
    """Random numbers come from a generator of their own device, on a GPU as on a CPU."""
    generator, device = kwargs.get("generator"), kwargs.get("device")
    if generator is not None and device is not None and torch.device(device).type != generator.device.type:
        raise RuntimeError(f"Expected a '{device}' device type for generator but found '{generator.device}'")


def _site() -> str:
    """The innermost line of the package on the stack, with its function."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if f"/{PACKAGE}/" in name:
            return f"{PACKAGE}/{name.rpartition(f'/{PACKAGE}/')[2]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "torch, in a backward pass"
