"""What a step may ask of a GPU. A rise fails the test; whoever lowers a count lowers its budget.

A wait stops the host until the device has done all before it; meanwhile the device runs out of work. An upload copies
the host's memory. A kernel is an operation of PyTorch that writes on the device: each costs the host some microseconds.
"""

from dataclasses import dataclass

from training_cases import SETTINGS

from gdmunet.training.coordination.weightings import WEIGHTINGS
from gdmunet.training.trainers.registry import named_trainers
from gdmunet.training.trainers.tokens import TokenTrainer


@dataclass(frozen=True)
class Budget:
    """Most waits, uploads and kernels; None: not held."""

    waits: int
    uploads: int
    kernels: int | None = None


NOTHING = Budget(0, 0)
# Crops and masks go up in a copy each, the numbers of the journal come down.
STEP = Budget(1, 2)
# Where tokens lie comes down besides.
TOKENS = Budget(2, 2)
# Inner products of gradients come down besides.
HOST_WEIGHTING = Budget(3, 2)

BUDGETS = {
    "trainer FidelityTrainer": Budget(1, 2, 350),
    "trainer PerceptualTrainer": Budget(1, 2, 870),
    "trainer DriftTrainer": Budget(2, 2, 1500),
    "trainer GDMTrainer": Budget(2, 2, 1500),
    "trainer AdversarialTrainer": Budget(1, 2, 880),
    "trainer FlowMatchingTrainer": Budget(1, 2, 360),
    "trainer BridgeTrainer": Budget(1, 2, 365),
    # Two batches in a step, each with tokens.
    "setting accumulation": Budget(3, 4),
    # Noise of validation is drawn on the CPU, so that all devices see the same.
    "sampler euler": Budget(0, 1),
    "sampler heun": Budget(0, 1),
    "sampler bridge_stochastic": Budget(0, 2),
    # Rows of the condition and shares of windows go up; finished rows come down while the next ones are computed.
    "prediction": Budget(3, 6, 390),
    "prediction with flips": Budget(3, 6, 750),
    "prediction, the condition on the device": Budget(3, 3, 385),
    # The matrices are made once.
    "projector parallel": Budget(14, 13),
    "projector fan": Budget(14, 15),
    "augmentation 2D": Budget(0, 2, 440),
    "augmentation 3D": Budget(0, 2, 640),
    "pretraining": Budget(50, 28),
}


def budget_of(name: str) -> Budget:
    """The budget of a case: its own, or that of its kind."""
    return BUDGETS.get(name, _budget_of_kind(name))


def _budget_of_kind(name: str) -> Budget:
    kind, _, what = name.partition(" ")
    if kind == "weighting":
        return NOTHING if WEIGHTINGS[what].elementwise else Budget(1, 0)
    if kind not in ("trainer", "setting", "2D", "residual"):
        return NOTHING
    trainer, changes = SETTINGS[what] if kind == "setting" else (what, {})
    trained = named_trainers()[trainer]
    if not issubclass(trained, TokenTrainer) or trained.feature_start == 1:
        return STEP
    weighting = changes.get("weighting", trained.weighting)
    return TOKENS if WEIGHTINGS[weighting].elementwise else HOST_WEIGHTING
