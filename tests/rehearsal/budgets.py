"""What a step may ask of a GPU. A rise fails the test; whoever lowers a count lowers its budget.

A wait stops the host until the device has done all before it; meanwhile the device runs out of work. An upload copies
the host's memory. A kernel is an operation of PyTorch that writes on the device: each costs the host some microseconds.
"""

from dataclasses import dataclass

from training_cases import SETTINGS

from gdmunet.training.coordination.weightings import WEIGHTINGS
from gdmunet.training.trainers.gdm import DriftTrainer
from gdmunet.training.trainers.registry import named_trainers


@dataclass(frozen=True)
class Budget:
    """Most waits, uploads and kernels; None: not held."""

    waits: int
    uploads: int
    kernels: int | None = None


NOTHING = Budget(0, 0)
# The batch (condition, target, mask) goes up, the numbers of the journal come down.
STEP = Budget(1, 3)
# Where tokens lie comes down besides.
DRIFT = Budget(2, 3)
# Inner products of gradients come down besides.
HOST_WEIGHTING = Budget(3, 3)

BUDGETS = {
    "trainer FidelityTrainer": Budget(1, 3, 420),
    "trainer PerceptualTrainer": Budget(1, 3, 900),
    "trainer DriftTrainer": Budget(2, 3, 1500),
    "trainer GDMTrainer": Budget(2, 3, 1500),
    "trainer AdversarialTrainer": Budget(1, 3, 700),
    "trainer FlowMatchingTrainer": Budget(1, 3, 450),
    "trainer BridgeTrainer": Budget(1, 3, 450),
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
    if not issubclass(trained, DriftTrainer):
        return STEP
    weighting = changes.get("weighting", trained.weighting)
    return DRIFT if WEIGHTINGS[weighting].elementwise else HOST_WEIGHTING
