"""The random twin of an encoder, to tell what pretraining is worth."""

from __future__ import annotations

import torch

from gdmunet.encoders.base import FrozenEncoder


def randomise(encoder: FrozenEncoder, seed: int) -> FrozenEncoder:
    """Replace every weight by a fresh draw of its own layer's initialisation; changes and returns the encoder.

    Global random numbers are left as they were.
    """
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        for module in encoder.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    finally:
        torch.random.set_rng_state(state)
    return encoder.freeze()
