"""The results folder: the only place that knows the names of its folders and files.

::

    results/DatasetXXX_Name/
        <Trainer>__<plans>__<configuration>/     ModelFolder
            plans.json
            fold_<k>/                            FoldFolder
            previous_fold_<k>/                   an earlier one, until its replacement has a checkpoint
        comparisons/<plans>__<configuration>/
        ensembles/<model>___<model>/
        encoders/<plans>_<configuration>_fold_<k>/
    results/jobs/<n>/                            of gdm_submit: logs and scripts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from gdmunet.dataset_names import DATASET_PATTERN
from gdmunet.errors import GdmError
from gdmunet.version import __version__

CheckpointName = Literal["best", "final", "latest"]
CHECKPOINT_NAMES: tuple[CheckpointName, ...] = get_args(CheckpointName)
ValidatedCheckpoint = Literal["final", "best"]

# Files that several folders hold: of a model, of an evaluation anywhere, of a training.
PLANS_FILE = "plans.json"
SUMMARY_FILE = "summary.json"
SEGMENTATION_FOLDER = "segmentation"
"""Label maps that an evaluation made, beside its summary."""
DIAL_FILE = "dial.json"
COMPARISON_FILE = "comparison.json"
REPORT_FILE = "report.html"
JOURNAL_FILE = "journal.jsonl"
SETTINGS_FILE = "settings.json"
SPLIT_FILE = "split.json"
RESUME_FILE = "resume.pt"
RUNNING_FILE = "running.json"
FINISHED_FILE = "finished.json"
CHECKPOINT_FILES: dict[CheckpointName, str] = {name: f"checkpoint_{name}.safetensors" for name in CHECKPOINT_NAMES}

SEPARATOR = "__"
FOLD_PREFIX = "fold_"
_PREVIOUS_PREFIX = "previous_"
# A model's place in a results folder, for people.
MODEL_LAYOUT = "DatasetXXX_Name/" + SEPARATOR.join(("<Trainer>", "<plans>", "<configuration>"))


def join_name(*parts: str) -> str:
    """The name of a folder from its parts, such as plans and configuration."""
    return SEPARATOR.join(parts)


@dataclass(frozen=True)
class ModelName:
    """The identity of a model: ``<trainer>__<plans>__<configuration>``."""

    trainer: str
    plans: str
    configuration: str

    def __str__(self) -> str:
        return join_name(self.trainer, self.plans, self.configuration)

    @classmethod
    def parse(cls, text: str) -> ModelName | None:
        """The parts of a folder's name; None for the name of another kind of folder."""
        parts = text.split(SEPARATOR)
        return cls(*parts) if len(parts) == 3 else None


@dataclass(frozen=True)
class FinishedSpec:
    """The content of the record of a training that came to its end."""

    gdmunet_version: str = __version__


@dataclass(frozen=True)
class FoldFolder:
    """The files of one trained fold.

    Attributes
    ----------
    path
        ``fold_0``, ``fold_1``, ... or ``fold_all`` in a model folder.
    """

    path: Path

    @property
    def fold(self) -> str:
        """Number of the fold as text, or ``all``."""
        return self.path.name.removeprefix(FOLD_PREFIX)

    def checkpoint(self, name: CheckpointName) -> Path:
        """Weights and their description."""
        return self.path / CHECKPOINT_FILES[name]

    def checkpoints(self) -> tuple[CheckpointName, ...]:
        """The checkpoints that are there."""
        return tuple(name for name in CHECKPOINT_NAMES if self.checkpoint(name).is_file())

    @property
    def previous(self) -> FoldFolder:
        """The place of an earlier training of the fold while a new one has no checkpoint yet."""
        return FoldFolder(self.path.with_name(f"{_PREVIOUS_PREFIX}{self.path.name}"))

    @property
    def running(self) -> Path:
        """The claim of the process that writes into the fold, while it does; beside it, since the folder may move."""
        return self.path.with_name(f"running_{self.path.name}.json")

    @property
    def finished(self) -> Path:
        """Record of a training that came to its end, validation included: written last, removed first."""
        return self.path / FINISHED_FILE

    @property
    def is_finished(self) -> bool:
        """Whether a training came to its end.

        Earlier versions wrote no record; the scores of the held-out cases, which were written last, stand for it.
        """
        validated = self.fold == "all" or self.finished.is_file() or self.summary().is_file()
        return validated and self.checkpoint("final").is_file()

    @property
    def can_continue(self) -> bool:
        """Whether a training has got as far as its first whole checkpoint and the state beside it."""
        return self.resume.is_file() and self.checkpoint("latest").is_file()

    def made_by_training(self) -> list[Path]:
        """Every file and folder there that a training makes."""
        files = [*(self.checkpoint(name) for name in CHECKPOINT_NAMES), self.resume, self.settings]
        files += [self.split, self.journal, self.log, self.progress_figure, self.finished, self.tracked_runs]
        folders = [self.validation("final"), self.validation("best"), self.tensorboard, self.wandb]
        return [path for path in (*files, *folders) if path.exists()]

    def trained_files(self) -> list[Path]:
        """Everything there that a training would lose by starting over, sorted by name."""
        files = [*(self.checkpoint(name) for name in CHECKPOINT_NAMES), self.resume]
        return sorted(file for file in files if file.is_file())

    @property
    def journal(self) -> Path:
        """One JSON line per epoch."""
        return self.path / JOURNAL_FILE

    @property
    def log(self) -> Path:
        """The training's log, for people."""
        return self.path / "training_log.txt"

    @property
    def progress_figure(self) -> Path:
        """The curves of the journal."""
        return self.path / "progress.png"

    @property
    def settings(self) -> Path:
        """The trainer's settings."""
        return self.path / SETTINGS_FILE

    @property
    def split(self) -> Path:
        """The cases that the fold trains on, and those that it holds out."""
        return self.path / SPLIT_FILE

    @property
    def resume(self) -> Path:
        """The state that continuing needs."""
        return self.path / RESUME_FILE

    @property
    def tensorboard(self) -> Path:
        """Folder of the journal's numbers for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def wandb(self) -> Path:
        """Folder of Weights & Biases."""
        return self.path / "wandb"

    @property
    def tracked_runs(self) -> Path:
        """The runs that trackers opened, so that a continued training goes on in them."""
        return self.path / "tracked_runs.json"

    def validation(self, checkpoint: ValidatedCheckpoint = "final") -> Path:
        """Folder of the predicted validation cases."""
        return self.path / ("validation" if checkpoint == "final" else "validation_best")

    def summary(self, checkpoint: ValidatedCheckpoint = "final") -> Path:
        """Scores of the predicted validation cases."""
        return self.validation(checkpoint) / SUMMARY_FILE

    def dial(self, checkpoint: ValidatedCheckpoint = "final") -> Path:
        """The error of the validation cases over the dial for realism, if the model has one."""
        return self.validation(checkpoint) / DIAL_FILE


@dataclass(frozen=True)
class ModelFolder:
    """A model: its plans and its trained folds.

    Attributes
    ----------
    path
        ``results/<dataset>/<trainer>__<plans>__<configuration>``.
    """

    path: Path

    @property
    def dataset(self) -> str:
        """Name of the data set's folder."""
        return self.path.parent.name

    @property
    def name(self) -> ModelName:
        """The parts of the folder's name.

        Raises
        ------
        GdmError
            The folder was renamed.
        """
        name = ModelName.parse(self.path.name)
        if name is None:
            raise GdmError(
                "the folder's name does not say which model it holds",
                file=self.path,
                expected=MODEL_LAYOUT,
                remedy="give the folder its name back",
            )
        return name

    @property
    def plans(self) -> Path:
        """The plans that the model was trained with."""
        return self.path / PLANS_FILE

    def fold(self, fold: int | str) -> FoldFolder:
        """The folder of a fold, whether it is there or not."""
        return FoldFolder(self.path / f"{FOLD_PREFIX}{fold}")

    def folds(self) -> list[FoldFolder]:
        """The folds that are there, sorted by name."""
        return [FoldFolder(path) for path in sorted(self.path.glob(f"{FOLD_PREFIX}*"))]

    def trained_folds(self) -> dict[str, tuple[CheckpointName, ...]]:
        """Each fold that has a checkpoint to the names of those it has."""
        return {folder.fold: names for folder in self.folds() if (names := folder.checkpoints())}


@dataclass(frozen=True)
class ResultsFolder:
    """The folder of trainings, comparisons and pretrained encoders of all data sets."""

    root: Path

    def model(self, dataset: str, trainer: str, plans: str, configuration: str) -> ModelFolder:
        """The folder of a model, whether it is there or not; `dataset` is ``DatasetXXX_Name``."""
        return ModelFolder(self.root / dataset / str(ModelName(trainer, plans, configuration)))

    def models(self) -> list[ModelFolder]:
        """All models with plans and at least one checkpoint, sorted by their path."""
        folders = [ModelFolder(path) for path in sorted(self.root.glob(f"{DATASET_PATTERN}/*"))]
        return [
            model
            for model in folders
            if ModelName.parse(model.path.name) is not None and model.plans.is_file() and model.trained_folds()
        ]

    def comparison(self, dataset: str, plans: str, configuration: str) -> Path:
        """Folder of a comparison of trainers."""
        return self.root / dataset / "comparisons" / join_name(plans, configuration)

    def ensemble(self, dataset: str, models: Sequence[ModelFolder]) -> Path:
        """Folder of the averaged validation predictions of some models."""
        return self.root / dataset / "ensembles" / "___".join(model.path.name for model in models)

    def encoder_run(self, dataset: str, plans: str, configuration: str, fold: str) -> Path:
        """Folder of the pretraining of an encoder."""
        return self.root / dataset / "encoders" / f"{plans}_{configuration}_{FOLD_PREFIX}{fold}"

    @property
    def jobs(self) -> Path:
        """Folder of all submissions of jobs; each has a numbered folder of its own."""
        return self.root / "jobs"

    def best_configuration(self, dataset: str) -> Path:
        """The ranking of a data set's models."""
        return self.root / dataset / "best_configuration.json"

    def instructions(self, dataset: str) -> Path:
        """The commands that predict with the best of a data set's models."""
        return self.root / dataset / "inference_instructions.txt"
