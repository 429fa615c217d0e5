"""A training whose cases lie on the device: steps as the loop takes them, without reading, journal or checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdmunet.device import exact_float32
from gdmunet.inference.predictor import Predictor
from gdmunet.preprocessing.preprocessor import PreparedCase
from gdmunet.training.draws import Draws
from gdmunet.training.loop.ema import copy_weights, weights_of
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.optimizers import load_optimizer
from gdmunet.training.trainers.trainer import Trainer
from gpu_parts.setting import Setting
from gpu_parts.stores import ResidentCases, centre_of, prepared_case

PREVIEW = 1_000_000
"""Number of the first batch that a trainer is shown before its encoder joins: training takes no such batch."""
DRY = (8, 40, 40)
"""Extent (z, y, x) of what is predicted in a dry run."""
KEPT_SECONDS = 8.0
"""Seconds before its deadline at which a course stops, so that what it has is written."""


@dataclass(frozen=True)
class Course:
    """A trainer, its state and its cases."""

    setting: Setting
    trainer: Trainer
    state: TrainingState
    fold: FoldData
    cases: ResidentCases

    @classmethod
    def fresh(cls, setting: Setting, trainer: Trainer, fold: FoldData, cases: ResidentCases) -> Course:
        """Before the first step."""
        return cls(setting, trainer, TrainingState.fresh(trainer), fold, cases)

    def follow(self, trunk: Course) -> None:
        """Go on where another trainer of the same network stands: weights, optimiser, average and iteration."""
        copy_weights(self.state.network, weights_of(trunk.state.network))
        load_optimizer(self.state.optimizer, trunk.state.optimizer.state_dict())
        self.state.average.load(trunk.state.average.state, trunk.state.average.steps)
        self.state.iteration = trunk.state.iteration

    def train(self, until: int) -> dict[str, float]:
        """Take steps up to that iteration, or to the deadline; the last step's numbers."""
        report: dict[str, float] = {}
        while self.state.iteration < until and self.setting.left > KEPT_SECONDS:
            begin_step(self.trainer, self.state, print)
            self._show()
            size = self.fold.configuration.batch_size
            report = take_step(self.trainer, self.state, [self.cases.batch(self.state.iteration, size)])
            self.state.iteration += 1
        return report

    @exact_float32()
    def _show(self) -> None:
        asked, size = self.trainer.preview(), self.fold.configuration.batch_size
        if asked is None:
            return
        draws = Draws.seeded(self.trainer.seed + 2, self.trainer.device)
        for number in range(-(-asked.patches // size)):
            self.trainer.see(self.cases.batch(PREVIEW + number, size), draws)

    def prepared(self, name: str) -> PreparedCase:
        """A whole case; in a dry run a part of it."""
        whole = prepared_case(self.fold, name)
        if not self.setting.dry:
            return whole
        assert whole.target is not None
        condition, target = (centre_of(array, (len(array), *DRY)) for array in (whole.condition, whole.target))
        return PreparedCase(condition, target, centre_of(whole.mask, DRY), whole.properties)

    def predict(self, name: str, offset: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
        """Prediction (z, y, x) of a whole case by the averaged weights, in HU on the prepared grid."""
        prepared = self.prepared(name)
        with self.state.average.applied(self.state.network):
            self.state.network.eval()
            predictor = Predictor(
                [self.state.network], self.fold.configuration, self.fold.plans.dataset, device=self.setting.device,
                precision=self.trainer.precision_on(self.setting.device),
            )  # fmt: skip
            found = predictor.predict_network_units(prepared, offset=offset).array
        return prepared.properties.target_map.invert(found)

    def body_mae(self, name: str, prediction: np.ndarray) -> float:
        """Mean absolute error inside the body, in HU."""
        prepared = self.prepared(name)
        assert prepared.target is not None
        target = prepared.properties.target_map.invert(prepared.target[0])
        return float(np.abs(prediction - target)[prepared.mask].mean())
