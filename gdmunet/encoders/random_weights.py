"""The random twin of an encoder, which shows the worth of pretraining."""

from __future__ import annotations

import torch

from gdmunet.encoders.base import FrozenEncoder


def randomise(encoder: FrozenEncoder, seed: int) -> FrozenEncoder:
    """Replace every weight by a fresh draw of its own layer's initialisation; changes and returns the encoder.

    Global random numbers are left as they were.
    """
    devices = {parameter.device for parameter in encoder.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        # Not torch.manual_seed: it would seed the generators of all GPUs, also where the encoder is still on the CPU.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device.index].manual_seed(seed)
        for module in encoder.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return encoder.freeze()
