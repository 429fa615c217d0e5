"""A step of every trainer on the fake GPU."""

import dataclasses
import functools
from collections.abc import Callable

from fake_gpu import GPU, Counts, Watch, faked
from planned import planned_configuration, planned_encoder, planned_experiment, planned_segmenter

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.plans import EncoderSpec
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.augmentation import UNCHANGED
from gdmunet.training.patches.crops import CropLabel, Crops
from gdmunet.training.trainers.encoder import EncoderTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.registry import named_trainers
from gdmunet.training.trainers.trainer import Trainer

# These are counted on the default plan, in a later step; their ablations and settings on a small one, in the first.
COUNTED = ("FidelityTrainer", "PerceptualTrainer", "DriftTrainer", "GDMTrainer", "AdversarialTrainer",
           "FlowMatchingTrainer", "BridgeTrainer")  # fmt: skip
_GLOBAL = {"families": ("spatial", "local", "global"), "drift_stride": 64, "minimum_tokens": 2}
SETTINGS: dict[str, tuple[str, dict[str, object]]] = {
    "float32": ("GDMTrainer", {"precision": "float32"}),
    "float16": ("GDMTrainer", {"precision": "float16"}),
    "shifted fidelity": ("FidelityTrainer", {"fidelity_loss": "shifted_l1"}),
    "gradient term": ("FidelityTrainer", {"gradient_weight": 1.0}),
    "accumulation": ("GDMTrainer", {"accumulation": 2}),
    "activation checkpointing": ("FidelityTrainer", {"activation_checkpointing": True}),
    "all families and levels": ("GDMTrainer", _GLOBAL),
    "pairing by index": ("GDMTrainer", {"pairing": "index", "bank_patches": 0, "minimum_tokens": 2}),
    "moving average of the force": ("GDMTrainer", {"drift_normalisation": "ema"}),
    "a weighting of the host": ("GDMTrainer", {"objectives": "levels", "weighting": "mgda", "gramian_ema": 0.9}),
    "weights per sample": ("GDMTrainer", {"per_sample": True}),
    "small blocks": ("GDMTrainer", {"block_elements": 2**19}),
    "gradient penalty and feature matching": (
        "AdversarialTrainer", {"r1_weight": 1.0, "feature_matching_weight": 1.0, "adversarial_loss": "least_squares"},
    ),
    "flow from the condition": ("FlowMatchingTrainer", {"source": "condition", "solver": "heun"}),
    "bridge without noise": ("BridgeTrainer", {"sampling": "deterministic"}),
}  # fmt: skip


def training_cases() -> dict[str, Callable[[Watch], Counts]]:
    cases: dict[str, Callable[[Watch], Counts]] = {}
    for name in COUNTED:
        cases[f"trainer {name}"] = functools.partial(rehearse_trainer, name=name, preset="plain", steps=2)
    for name in named_trainers():
        if name not in COUNTED:
            cases[f"trainer {name}"] = functools.partial(rehearse_trainer, name=name, **_one_temperature(name))
    for what, (name, changes) in SETTINGS.items():
        changes = _one_temperature(name) | changes
        cases[f"setting {what}"] = functools.partial(rehearse_trainer, name=name, **changes)
    for name in ("FidelityTrainer", "GDMTrainer"):
        few = _one_temperature(name)
        cases[f"2D {name}"] = functools.partial(rehearse_trainer, name=name, configuration="2d", **few)
        cases[f"residual {name}"] = functools.partial(rehearse_trainer, name=name, condition="CT", **few)
    return cases


def _one_temperature(name: str) -> dict[str, object]:
    """The default's other temperatures do the same again, on the host that rehearses for seconds."""
    default = getattr(named_trainers()[name], "temperatures", None) == GDMTrainer.temperatures
    return {"temperatures": GDMTrainer.temperatures[:1]} if default else {}


def rehearse_trainer(
    watch: Watch,
    name: str,
    preset: str = "tiny",
    condition: str = "MR",
    configuration: str = "3d_fullres",
    steps: int = 1,
    **changes: object,
) -> Counts:
    """The counts of the last step; the first one makes the optimiser's moments besides."""
    kind = named_trainers()[name]
    own: dict[str, object] = {"precision": "bfloat16"} | changes
    if issubclass(kind, EncoderTrainer) and kind.feature_start < 1:
        own["feature_start"] = 0.0
    if kind.trains_in_turns:
        own["faithful_rate"] = 0.1  # its first part would never be trained else
    kind = type(f"Rehearsed{name}", (kind,), {"__module__": __name__, **own})
    planned = planned_configuration(preset, condition, configuration)
    encoder = planned_encoder(planned.dimensions)
    if kind.reads_decoder:
        spec, encoder = planned_segmenter()
        planned = dataclasses.replace(planned, encoder=spec)

    def load_encoder(spec: EncoderSpec, units: VolumeUnits) -> FrozenEncoder:
        del spec, units
        return faked(encoder, watch.mode)

    trainer = kind(planned, planned_experiment(preset, condition).dataset, GPU, load_encoder)
    state = TrainingState.fresh(trainer)
    _fill_bank(trainer)
    for _ in range(steps):
        begin_step(trainer, state, _say_nothing)
        batches = [_crops(trainer) for _ in range(trainer.accumulation)]
        watch.restart()
        take_step(trainer, state, [crops.to(trainer.device).finish(None) for crops in batches])
        state.iteration += 1
    counts = watch.restart()
    _check_places(trainer, state)
    return counts


def _crops(trainer: Trainer) -> Crops:
    """A batch as a loader gives it, in the host's page-locked memory."""
    configuration = trainer.configuration
    labels = [CropLabel(f"case_{n}", configuration.patch_size, UNCHANGED) for n in range(configuration.batch_size)]
    return Crops.empty(labels, configuration.network.in_channels + 1, configuration.patch_size).pinned()


def _fill_bank(trainer: Trainer) -> None:
    """Without previews of real patches, which take many steps: the zeros that it starts with are as good."""
    bank = getattr(trainer, "bank", None)
    if bank is not None:
        bank._written = dict(bank.capacities)


def _check_places(trainer: Trainer, state: TrainingState) -> None:
    """Weights and their average are on the device; what is saved besides can be asked for."""
    trainer.extra_state()
    wrong = [name for name, weight in state.network.named_parameters() if weight.device != GPU]
    wrong += [name for name, weight in state.average.state.items() if weight.device != GPU]
    assert not wrong, f"not on the GPU: {wrong}"


def _say_nothing(_text: str) -> None:
    """A training's log."""
