"""What each frozen encoder adds to the memory of a training step with one patch, in float32.

    python benchmarks/encoder_memory.py                          # predictions for all; mini and tiny are measured too
    python benchmarks/encoder_memory.py --measure mini ct-fm     # measure these; needs memory and time

Predicted: the planner's own count of what the encoder adds to a generator of a few channels: its weights, the
activations that wait for the backward pass, and what that pass needs for a moment. Measured: the peak of live tensor
bytes of a real forward and backward pass of the encoder alone on the CPU; waiting: what of that lives between the two.
It may be some MB more: in a step the generator has let go of as much when the encoder's peak comes. Weights are random,
since memory does not depend on their values. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from memory_model import DATASET, configuration_of

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.convolutional import ConvolutionalEncoder
from gdmunet.encoders.ct_fm import CtFmEncoder, SegResNetwork
from gdmunet.encoders.medicalnet import MedicalNetEncoder, MedicalNetwork
from gdmunet.encoders.medvae import MedVaeEncoder, MedVaeNetwork
from gdmunet.encoders.mini import build_tiny, random_mini
from gdmunet.encoders.nnssl import FEATURES, residual_encoder_l
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import EncoderSpec, NormalizationSpec
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.perceptual import PerceptualTrainer

UNITS = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), 0.0, 1000.0), -1000.0, "CT")
GENERATOR = NetworkSpec(
    1, 1, (2, 2), ((1,) * 3, (2,) * 3), ((3,) * 3, (3,) * 3), (1, 1), (1,), "plain", "instance"
)  # fmt: skip
STRIDES = ((1,) * 3, *(((2,) * 3,) * 5))
MEASURED_EDGE, TABLE_EDGE = 48, 64
# nnunet and mae are the user's: the one is as its model, the other as mini.
BUILDERS: dict[str, Callable[[], FrozenEncoder]] = {
    "mini": lambda: random_mini(UNITS, 3),
    "medvae-4x-3d": lambda: MedVaeEncoder(MedVaeNetwork((1, 2, 4)), UNITS),
    "medvae-8x-3d": lambda: MedVaeEncoder(MedVaeNetwork((1, 2, 4, 4)), UNITS),
    "ct-fm": lambda: CtFmEncoder(SegResNetwork(), UNITS),
    "medicalnet-10": lambda: MedicalNetEncoder(MedicalNetwork((1, 1, 1, 1), bottleneck=False), UNITS),
    "medicalnet-50": lambda: MedicalNetEncoder(MedicalNetwork((3, 4, 6, 3), bottleneck=True), UNITS),
    "nnssl": lambda: ConvolutionalEncoder(residual_encoder_l(), UNITS, FEATURES, STRIDES),
    "tiny": lambda: build_tiny(None, UNITS, 3),
}


def main() -> None:
    """One row an encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs="*", default=["mini", "tiny"], choices=list(BUILDERS), metavar="NAME")
    wanted = parser.parse_args().measure
    small, large = (f"{edge}^3" for edge in (MEASURED_EDGE, TABLE_EDGE))
    print(f"| encoder | weights MB | predicted MB at {large} | at {small} | measured at {small} | waiting at {small} |")
    print("|---|---|---|---|---|---|")
    for name, build in BUILDERS.items():
        encoder = build().freeze()
        cells = [weight_bytes(encoder), predicted(encoder, TABLE_EDGE), predicted(encoder, MEASURED_EDGE)]
        cells += measured(encoder, MEASURED_EDGE) if name in wanted else []
        texts = [f"{value / 1e6:.0f}" for value in cells]
        print(f"| `{name}` | {' | '.join([*texts, *['-'] * (5 - len(texts))])} |", flush=True)


def weight_bytes(encoder: FrozenEncoder) -> int:
    """Bytes of parameters and buffers."""
    return sum(tensor.nbytes for tensor in [*encoder.parameters(), *encoder.buffers()])


def predicted(encoder: FrozenEncoder, edge: int) -> int:
    """The encoder's share of a step with one patch, as plans count it."""
    patch = (edge,) * 3
    spec = EncoderSpec("benchmark", "0" * 64, 3, None, encoder.levels, "not stated")
    configuration = replace(configuration_of(GENERATOR, patch), encoder=spec)
    return StepMemory(PerceptualTrainer, linear=False)(PlannedStep(configuration, DATASET, "float32", encoder)).encoder


def measured(encoder: FrozenEncoder, edge: int) -> list[int]:
    """Peak bytes of a forward and backward pass, and bytes alive between the two; both with the weights."""
    with LiveBytes() as live:
        live.track(encoder.state_dict())
        patch = torch.zeros(1, 1, *(edge,) * 3, requires_grad=True)
        maps = encoder(patch)
        waiting = live.current
        torch.stack([level.values.flatten(2)[:, :, 0].square().sum() for level in maps]).sum().backward()
    return [live.peak, waiting]


if __name__ == "__main__":
    main()
