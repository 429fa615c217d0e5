"""Shared by all tests: one thread, because two on a busy machine can be many times slower than one; no network.

Property tests draw the same few examples every time.
"""

import os

import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

# This process, whose libraries are loaded, and every process that a test starts.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
settings.register_profile("stable", derandomize=True, deadline=None, max_examples=40, database=None)
settings.load_profile("stable")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: a process per core that is free for this one, at most eight, as each takes a gigabyte of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)
