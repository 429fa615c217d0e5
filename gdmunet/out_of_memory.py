"""Memory that runs out: the one place that knows how Python, torch and its libraries say so, without torch itself."""

from __future__ import annotations

import errno
import sys

# Out of memory without a type of its own. Nothing else in the package reads the text of an error.
_TEXTS = (
    "out of memory",  # CUDA outside torch's allocator, MPS
    "DefaultCPUAllocator: can't allocate memory",
    "could not create a primitive",  # oneDNN
    "could not create a memory object",
    "std::bad_alloc",
    "can't start new thread",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left, for tensors, for a thread or for a process."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN)
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
