"""Shared by all tests: one thread, because two on a busy machine can be many times slower than one; no network.

Property tests draw the same few examples every time.
"""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ["HF_HUB_OFFLINE"] = "1"
settings.register_profile("stable", derandomize=True, deadline=None, max_examples=40, database=None)
settings.load_profile("stable")
