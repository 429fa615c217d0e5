"""Memory of this computer: work that cannot fit is refused before it begins, and what runs out all the same is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.out_of_memory import is_out_of_memory
from gdmunet.quantities import memory_size

# Limits of a container, which the system's own figures do not show: limit and use, cgroup versions 2 and 1.
_CONTAINERS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_memory() -> int:
    """Bytes that may still be allocated: of the computer, or of the container that this process runs in."""
    import psutil  # here: the help of the commands needs no such figure

    available: int = psutil.virtual_memory().available
    for limit, used in _CONTAINERS:
        try:
            available = min(available, max(0, int(limit.read_text()) - int(used.read_text())))
        except (OSError, ValueError):  # not such a container, or one without a limit
            continue
    return available


def check_memory(needed: int, shape: tuple[int, ...], work: str, remedy: str, case: str | None = None) -> None:
    """Refuse work whose arrays alone are larger than the memory that is left.

    Parameters
    ----------
    needed
        Bytes of the arrays that the work allocates at once.
    shape
        Voxels of one of them.
    work
        The work, as in ``resampling the case``.

    Raises
    ------
    GdmError
        Says the voxels, the bytes that they need and those that are available.
    """
    available = available_memory()
    if needed > available:
        voxels = " x ".join(map(str, shape))
        raise GdmError(
            f"there is not enough memory for {work}",
            case=case,
            found=f"{memory_size(needed)} for {voxels} voxels",
            expected=f"at most {memory_size(available)}, which are free",
            remedy=remedy,
        )


@contextlib.contextmanager
def planned_memory(needed: int | Callable[[], int], work: str, case: str | None = None) -> Iterator[None]:
    """Inside, memory that runs out is one message with the planned figure.

    Parameters
    ----------
    needed
        Bytes of the arrays that the work allocates at once, or a function that counts them, asked only then.
    work
        The work, as in ``preparing the case``.

    Raises
    ------
    GdmError
        In place of the error of Python, torch, oneDNN or the system; others pass.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise ran_out(error, work, needed if isinstance(needed, int) else needed()).located(case=case) from error


def ran_out(error: BaseException, work: str | None = None, needed: int | None = None) -> GdmError:
    """The one message of memory, threads or processes that ran out.

    Parameters
    ----------
    error
        The error that says so (`gdmunet.out_of_memory`).
    work, needed
        The work, and the bytes that were planned for it; None: not known.
    """
    import psutil

    host, used = psutil.virtual_memory(), psutil.Process().memory_info().rss
    free = f"{memory_size(available_memory())} free of {memory_size(host.total)}"
    reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return GdmError(
        "memory ran out" + (f" while {work}" if work else ""),
        found=f"{free}, {memory_size(used)} used by this process ({reason})",
        expected=None if needed is None else f"{memory_size(needed)} as planned, beside what the process holds already",
        remedy="end other programs, use fewer processes (-np), or use a computer with more memory",
    )
