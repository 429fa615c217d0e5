"""Memory of this computer: work that cannot fit is refused before anything is allocated."""

from __future__ import annotations

from pathlib import Path

from gdmunet.errors import GdmError
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
