"""Tests and what they start take one core each, however many run beside one another."""

import os
import subprocess
import sys

import torch
from threadpoolctl import threadpool_info

THREADS = "import numpy, threadpoolctl; print(max(pool['num_threads'] for pool in threadpoolctl.threadpool_info()))"


def test_this_process_computes_with_one_thread():
    assert torch.get_num_threads() == 1
    assert {pool["num_threads"] for pool in threadpool_info()} == {1}


def test_a_started_process_computes_with_one_thread():
    started = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "1", os.environ.get("OMP_NUM_THREADS")
