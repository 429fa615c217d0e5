"""The wheels that travel beside the tree to a machine without a network, and the size of all that travels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gpu_parts.stores import size_of

ROOT = Path(__file__).parents[2]
LIMIT_MIB = 64
# What is imported there beside PyTorch, NumPy, SciPy, scikit-image, safetensors, matplotlib, tqdm, psutil and pytest.
# Declared needs that nothing imports are left out: pandas and scikit-learn of batchgenerators, timm of
# dynamic-network-architectures, pydantic of blosc2.
WHEELS = (
    "batchgenerators", "dynamic-network-architectures", "threadpoolctl",
    "blosc2", "ndindex", "numexpr", "msgpack", "rich", "markdown-it-py", "mdurl", "pygments",
    "httpx", "httpcore", "h11", "anyio", "sniffio", "certifi", "idna", "typing-extensions",
    "hypothesis", "sortedcontainers", "pytest-timeout",
)  # fmt: skip
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def fetch_wheels(folder: Path, stores: Path | None) -> None:
    """Download the wheels for Python 3.12, and print the size of tree, wheels and prepared cases together."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--dest", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *WHEELS], check=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sizes = {
        "tree": sum((ROOT / name).stat().st_size for name in listed.split("\0") if (ROOT / name).is_file()),
        "wheels": size_of(folder),
    }
    if stores is not None:
        sizes["prepared cases"] = size_of(stores / "cases")
    for name, size in sizes.items():
        print(f"{name}: {size / 2**20:.1f} MiB")
    whole = sum(sizes.values()) / 2**20
    print(f"together: {whole:.1f} MiB of {LIMIT_MIB}")
    if whole > LIMIT_MIB:
        raise SystemExit("more than may travel")
