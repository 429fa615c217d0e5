"""Compiles and loads `stand_in.cpp`, without which torch's CPU build refuses tensors on a GPU. Imports no torch."""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("stand_in.cpp")
COMPILER = "g++"


def torch_folder() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def obstacle() -> str | None:
    """The reason why nothing can be rehearsed here, in words; None: it can."""
    if sys.platform != "linux":
        return f"the rehearsal without a GPU runs on Linux, and this is {sys.platform}"
    if list((torch_folder() / "lib").glob("libtorch_cuda*")):
        return "the rehearsal without a GPU needs a CPU build of PyTorch, and this one has CUDA"
    if shutil.which(COMPILER) is None:
        return f"the rehearsal without a GPU compiles 60 lines of C++, and {COMPILER} is not installed"
    return None


def built() -> Path:
    """The compiled stand-in, kept by the hash of its source, torch's version and torch's place, which it holds."""
    torch = torch_folder()
    content = SOURCE.read_bytes() + (torch / "version.py").read_bytes() + os.fsencode(torch)
    cache = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "gdmunet_rehearsal"
    library = cache / f"stand_in_{hashlib.sha256(content).hexdigest()[:16]}.so"
    if library.is_file():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / library.name
        include, libraries = torch / "include", torch / "lib"
        subprocess.run(
            [COMPILER, "-std=c++20", "-O0", "-w", "-shared", "-fPIC", str(SOURCE), f"-I{include}",
             f"-I{include}/torch/csrc/api/include", f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lc10", "-ltorch_cpu",
             "-o", str(fresh)],
            check=True,
        )  # fmt: skip
        fresh.replace(library)
    return library


def load() -> None:
    """Before torch is imported, which looks for a device guard and hooks once."""
    assert "torch" not in sys.modules, "the stand-in must be loaded before torch"
    ctypes.CDLL(str(built()))
