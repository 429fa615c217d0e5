"""The arms of the claim: trainers that share their fidelity training, bit for bit, up to where the encoder joins."""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from protocol import check_defaults

from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.paths import Folders
from gdmunet.plans import load_plans
from gdmunet.results import FoldFolder
from gdmunet.serialization import save_json, to_json
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.opening import fold_folder
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.registry import find_trainer

JOINING = 0.6


@dataclass(frozen=True)
class Arm:
    """A trainer and its settings beyond those of all arms.

    `branches`: it starts from the shared fidelity training. `realism`: place of its dial in predictions; None: it has
    no dial. Validation chooses no place here: what it sees are the persons that are judged. `encoder`: in place of the
    planned one.
    """

    trainer: str
    settings: tuple[tuple[str, str], ...] = ()
    branches: bool = True
    realism: float | None = None
    encoder: str | None = None


# The encoder takes part in each step.
_EACH = (("feature_every", "1"),)
# Levels of the built-in encoder without the one at stride 1.
_COARSE = (("drift_levels", "stride_2,stride_4"),)


def _at_start(weight: str) -> tuple[tuple[str, str], ...]:
    """A weight that is measured on the first gradients, whatever distance is left."""
    return (("calibrated_at", "start"), ("calibrated_weight", weight), *_EACH)


FIDELITY = "fidelity"
ARMS = {
    FIDELITY: Arm("FidelityTrainer"),
    "paired statistics": Arm("PairedStatisticsTrainer"),
    "GDM, first version": Arm("GDMTrainer", _COARSE),
    "transport, strides 2 and 4": Arm("GDMTrainerTransport", (*_COARSE, *_at_start("0.5"))),
    "transport": Arm("GDMTrainerTransport", _at_start("0.5")),
    "transport, weight 1/4": Arm("GDMTrainerTransport", _at_start("0.25")),
    "transport, weight 1/8": Arm("GDMTrainerTransport", _at_start("0.125")),
    "transport, weight 1": Arm("GDMTrainerTransport", _at_start("1")),
    "transport, weight 2": Arm("GDMTrainerTransport", _at_start("2")),
    "transport, by distance": Arm("GDMTrainerTransport", (("calibrated_weight", "3"), *_EACH)),
    "transport, every 2nd step": Arm("GDMTrainerTransport", (("calibrated_weight", "3"),)),
    "transport, every 2nd step, weight 2.5": Arm("GDMTrainerTransport"),
    "transport, random filters": Arm("GDMTrainerTransport", encoder="mini-random"),
    "transport, random filters, weight 1.25": Arm(
        "GDMTrainerTransport", (("calibrated_weight", "1.25"),), encoder="mini-random"
    ),
    "transport, random filters, weight 5": Arm(
        "GDMTrainerTransport", (("calibrated_weight", "5"),), encoder="mini-random"
    ),
    "transport, random filters, stride 1": Arm(
        "GDMTrainerTransport", (("drift_levels", "stride_1"),), encoder="mini-random"
    ),
    "transport + pair, random filters": Arm("GDMTrainerTransportPaired", encoder="mini-random"),
    "GDM, first version, random filters": Arm("GDMTrainer", _COARSE, encoder="mini-random"),
    "transport, battery": Arm("GDMTrainerTransportBattery"),
    "transport, battery, every 4th step": Arm("GDMTrainerTransportBattery", (("feature_every", "4"),)),
    "transport, battery of 1": Arm("GDMTrainerTransportBattery", (("battery", "1"),)),
    "transport, battery of 2, every 4th step": Arm(
        "GDMTrainerTransportBattery", (("battery", "2"), ("feature_every", "4"))
    ),
    "transport, planned and random encoder, every 4th step": Arm(
        "GDMTrainerTransportBattery", (("battery", "2"), ("battery_first", "planned"), ("feature_every", "4"))
    ),
    "transport + pair, by distance": Arm(
        "GDMTrainerTransportPaired", (("calibrated_at", "spread"), ("calibrated_weight", "3"))
    ),
    "transport + pair": Arm("GDMTrainerTransportPaired"),
    "transport + pair, weight 1/4": Arm("GDMTrainerTransportPaired", (("calibrated_weight", "0.25"),)),
    "pair, fresh encoder": Arm("PairedStatisticsTrainerFreshEncoder"),
    "GDM, fresh encoder": Arm("GDMTrainerFreshEncoder"),
    "dial at 0": Arm("GDMTrainerDial", branches=False, realism=0.0),
    "dial at 0.4": Arm("GDMTrainerDial", branches=False, realism=0.4),
    "dial at 0.7": Arm("GDMTrainerDial", branches=False, realism=0.7),
    "dial at 1": Arm("GDMTrainerDial", branches=False, realism=1.0),
    "GDM as in the paper": Arm("GDMTrainerPaper", branches=False),
    "adversarial": Arm("AdversarialTrainer", branches=False),
}


@dataclass(frozen=True)
class Place:
    """One fold of one data set of the claim.

    Attributes
    ----------
    work
        Folder with gdm_raw, gdm_preprocessed, gdm_results.
    plans
        The plans' file.
    """

    work: Path
    plans: Path
    configuration: str
    fold: str
    seed: int
    iterations: int

    @property
    def folders(self) -> Folders:
        """The three folders, and that of encoders."""
        return Folders(
            *(self.work / f"gdm_{name}" for name in ("raw", "preprocessed", "results")), self.work / "encoders"
        )

    @property
    def prefix(self) -> Path:
        """The resume state of the shared fidelity training."""
        return self.work / "prefix" / f"seed_{self.seed}_fold_{self.fold}_{self.iterations}.pt"

    def settings(self, arm: Arm) -> dict[str, str]:
        """Settings of an arm; an epoch is a twentieth of the training."""
        shared = {"seed": str(self.seed), "iterations": str(self.iterations), "learning_rate": "0.002"}
        return {**shared, "iterations_per_epoch": str(self.iterations // 20), "ema_decay": "0.99", **dict(arm.settings)}

    def folder(self, arm: Arm) -> FoldFolder:
        """Results of the arm on this fold."""
        return fold_folder(find_trainer(arm.trainer).derive(self.settings(arm)), self.data(arm), self.folders)

    def data(self, arm: Arm) -> FoldData:
        """The prepared cases, by plans with the encoder of the arm."""
        planned = FoldData.of(load_plans(self.plans), self.configuration, self.fold, self.folders.preprocessed)
        if arm.encoder is None:
            return planned
        plans, own = planned.plans, planned.configuration
        units = VolumeUnits.of(own, plans.dataset.target_name)
        chosen = choose_encoder(arm.encoder, units, own.dimensions, EncoderOptions(self.folders.encoders)).spec
        own = replace(own, encoder=chosen)
        renamed = replace(plans, name=f"{plans.name}_{arm.encoder}", configurations={own.name: own})
        return replace(planned, plans=renamed, configuration=own)


class _Branching(Loop):
    """Keeps the state at the end of the epoch at whose end encoders join."""

    kept: Path | None = None

    def save_latest(self) -> None:
        super().save_latest()
        if self.kept and self.state.iteration == round(JOINING * self.trainer.total_iterations):
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder.resume, self.kept.with_suffix(".part"))
            self.kept.with_suffix(".part").replace(self.kept)


def train_arm(place: Place, name: str) -> None:
    """Train an arm to its end, from where it stands, from the shared training, or from fresh weights."""
    arm = ARMS[name]
    folder = place.folder(arm)
    kind = find_trainer(arm.trainer).derive(place.settings(arm))
    check_defaults(folder, kind.settings())
    if folder.checkpoint("final").exists():
        return
    data = place.data(arm)
    encoders = functools.partial(load_encoder, cache=place.folders.encoders)
    trainer = kind(data.configuration, data.plans.dataset, torch.device("cpu"), encoders)
    folder.path.mkdir(parents=True, exist_ok=True)
    save_json(data.plans, folder.path.parent / "plans.json")
    save_json(kind.settings(), folder.settings)
    loop = _Branching(trainer, TrainingState.fresh(trainer), data, folder, show_progress=False)
    loop.kept = place.prefix if name == FIDELITY else None
    if not folder.resume.exists() and arm.branches and name != FIDELITY:
        state = torch.load(place.prefix, weights_only=True)
        own = {"settings": to_json(trainer.settings()), "provenance": to_json(loop.provenance)}
        torch.save({**state, **own, "extra": trainer.extra_state()}, folder.resume)
    if folder.resume.exists():
        loop.resume()
    loop.train(0)
