"""Shared by all tests: one thread, because two on a busy machine can be many times slower than one; no network.

Property tests draw the same few examples every time.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

from gdmunet.metrics import METRICS

# This process, whose libraries are loaded, and every process that a test starts.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
# No test changes what the user allowed to run.
os.environ["GDM_CONSENTS"] = str(Path(tempfile.mkdtemp(prefix="gdm-consents-")) / "consents.json")
settings.register_profile("stable", derandomize=True, deadline=None, max_examples=40, database=None)
settings.load_profile("stable")


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--cpu-as-gpu",
        action="store_true",
        help="run the tests marked gpu that take the fixture gpu on the CPU: it proves the tests, nothing of a GPU",
    )


def pytest_collection_modifyitems(config, items) -> None:
    """Tests of a GPU say why they are skipped where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        stand_in = config.getoption("--cpu-as-gpu") and "gpu" in item.fixturenames
        if item.get_closest_marker("gpu") and not stand_in:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and PyTorch finds none"))


@pytest.fixture(autouse=True)
def _known_metrics() -> Iterator[None]:
    """The table of metrics as it was: rows of a user's own, which a test enrols, do not stay."""
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


@pytest.fixture
def gpu(request) -> torch.device:
    """The first GPU; the CPU where it stands for one."""
    return torch.device("cpu" if request.config.getoption("--cpu-as-gpu") else "cuda:0")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: a process per core that is free for this one, at most eight, as each takes a gigabyte of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@pytest.fixture
def tf32_on() -> Iterator[None]:
    """The switches of TF32 as a user may have set them; as before afterwards."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])
