"""What a device is asked for."""

import subprocess
import sys

import numpy as np
import pytest

ASK = "import torch; from gdmunet.device import peak_memory_mb; print(peak_memory_mb(torch.device('cpu')))"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's own figure is taken")
def test_peak_memory_is_the_processs_own():
    """Not that of the process that started it, which getrusage reports."""
    ballast = np.ones(150_000_000)  # 1.2 GB
    found = float(subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout)
    assert ballast.nbytes / 1e6 > 1000 > found > 20
