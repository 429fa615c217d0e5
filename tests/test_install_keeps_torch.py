"""An installation leaves the user's torch and torchvision as they are, though newer ones are in the index."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def report(python, folder, *words):
    """Name and version of all that pip would install, without installing it."""
    file = folder / "report.json"
    command = [python, "-m", "pip", "install", "-q", "--dry-run", "--report", str(file), *words]
    subprocess.run(command, check=True, timeout=1500)
    found = [entry["metadata"] for entry in json.loads(file.read_text())["install"]]
    return {one["name"].lower().replace("_", "-"): one["version"] for one in found}


@pytest.mark.network
@pytest.mark.timeout(3000)
def test_a_wheel_keeps_an_older_pair(tmp_path):
    """The tested pair is older than the newest; dynamic-network-architectures asks for timm, and timm for torchvision.

    The pair is installed for real, into a fresh environment; for gdmunet pip's resolver says what it would install.
    """
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "fresh"], check=True)
    python = str(tmp_path / "fresh" / "bin" / "python")
    pair = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch")]
    assert len(pair) == 2
    subprocess.run([python, "-m", "pip", "install", "-q", *pair], check=True, timeout=1500)
    wheel = [python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(wheel, check=True, timeout=600)
    [built] = tmp_path.glob("gdmunet-*.whl")
    added = report(python, tmp_path, str(built))
    assert {"gdmunet", "timm", "dynamic-network-architectures"} <= set(added)
    assert not {"torch", "torchvision"} & set(added)
