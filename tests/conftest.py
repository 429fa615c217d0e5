"""Shared by all tests: one thread, because two on a busy machine can be many times slower than one; no network."""

import os

import torch

torch.set_num_threads(1)
os.environ["HF_HUB_OFFLINE"] = "1"
