"""Programs that show curves of many trainings: they hear of every epoch what the journal holds, and never stop one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gdmunet.errors import GdmError
from gdmunet.results import FoldFolder
from gdmunet.serialization import load_json, save_json


@dataclass(frozen=True)
class TrackedRunsSpec:
    """Identifier of the run that each tracker opened for a training, by the tracker's name."""

    runs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackedRun:
    """A training as a tracker knows it.

    Attributes
    ----------
    folder
        Results of the fold.
    settings
        Settings of the trainer, by name.
    """

    folder: FoldFolder
    settings: Mapping[str, Any]

    @property
    def group(self) -> str:
        """The data set."""
        return self.folder.path.parents[1].name

    @property
    def name(self) -> str:
        """Model and fold."""
        return f"{self.folder.path.parent.name}/{self.folder.path.name}"

    def known(self, tracker: str) -> str | None:
        """Identifier of the run that an earlier part of this training opened."""
        return self._runs().runs.get(tracker)

    def remember(self, tracker: str, run: str) -> None:
        """Keep the identifier, so that a continued training goes on in the same run."""
        save_json(TrackedRunsSpec({**self._runs().runs, tracker: run}), self.folder.tracked_runs)

    def _runs(self) -> TrackedRunsSpec:
        file = self.folder.tracked_runs
        return load_json(TrackedRunsSpec, file) if file.is_file() else TrackedRunsSpec()


class Tracker(Protocol):
    """What hears of a training."""

    def record(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of an epoch; after an interruption an epoch may come again, with the same numbers."""


class TensorBoardTracker:
    """Files in ``tensorboard/`` of the fold."""

    def __init__(self, run: TrackedRun) -> None:
        self.folder = run.folder.tensorboard

    def record(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Write one epoch."""
        from torch.utils.tensorboard import SummaryWriter

        # Opening the writer anew for each epoch costs nothing, and a resumed epoch replaces what it repeats.
        with SummaryWriter(str(self.folder), purge_step=epoch) as writer:
            for name, value in numbers.items():
                writer.add_scalar(name, value, epoch)


class WandbTracker:
    """Weights & Biases: the project is the data set; ``WANDB_MODE=offline`` writes files alone."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        known = run.known("wandb")
        self._run = wandb.init(
            project=run.group, name=run.name, config=dict(run.settings), id=known, resume="allow" if known else None,
            dir=str(run.folder.path), settings=wandb.Settings(silent=True),
        )  # fmt: skip
        run.remember("wandb", self._run.id)

    def record(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Send one epoch."""
        self._run.log(dict(numbers), step=epoch, commit=True)


class MlflowTracker:
    """MLflow: the experiment is the data set; ``MLFLOW_TRACKING_URI`` says where the server or folder is."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        known = run.known("mlflow")
        if known is None:
            experiment = self._client.get_experiment_by_name(run.group)
            identifier = experiment.experiment_id if experiment else self._client.create_experiment(run.group)
            known = self._client.create_run(identifier, run_name=run.name).info.run_id
            for name, value in run.settings.items():
                self._client.log_param(known, name, str(value))
            run.remember("mlflow", known)
        self._run = known

    def record(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Send one epoch."""
        for name, value in numbers.items():
            self._client.log_metric(self._run, name, value, step=epoch)


TRACKERS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
}


class Trackers:
    """All trackers of a training. One that fails is left out from then on, and the log says why.

    Parameters
    ----------
    names
        Keys of `TRACKERS`.
    """

    def __init__(self, names: Sequence[str], run: TrackedRun, say: Callable[[str], None]) -> None:
        self._say = say
        self._open: dict[str, Tracker] = {}
        for name in names:
            try:
                self._open[name] = TRACKERS[name](run)
            except Exception as error:  # foreign code: its failure is not one of the training
                self._leave_out(name, error)

    def record(self, row: Mapping[str, Any]) -> None:
        """Tell every tracker a row of the journal."""
        numbers = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and name not in ("epoch", "iteration")
        }
        for name, tracker in list(self._open.items()):
            try:
                tracker.record(row["epoch"], numbers)
            except Exception as error:
                del self._open[name]
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        reason = str(error).strip().splitlines() or [""]
        self._say(f"the tracker {name} failed and is left out: {type(error).__name__}: {reason[0][:200]}")


def wanted_trackers(asked: Sequence[str]) -> tuple[str, ...]:
    """The trackers that were asked for, and TensorBoard if it is installed.

    Raises
    ------
    GdmError
        One that was asked for is not installed.
    """
    for name in asked:
        if importlib.util.find_spec(name) is None:
            raise GdmError(
                f"the tracker {name} is not installed",
                expected=f"the package {name}",
                remedy=f"install it: pip install gdmunet[{name}]; or omit --tracker {name}",
            )
    here = ("tensorboard",) if importlib.util.find_spec("tensorboard") is not None else ()
    return tuple(dict.fromkeys((*here, *asked)))
