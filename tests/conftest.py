"""Shared by all tests: one thread, because two on a busy machine can be many times slower than one."""

import torch

torch.set_num_threads(1)
