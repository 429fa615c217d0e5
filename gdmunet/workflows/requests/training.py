"""Requests of ``gdm_train`` and ``gdm_compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.workflows.requests.declaration import (
    ProgressRequest,
    RequestError,
    Switch,
    Synopsis,
    option,
    request,
    switches,
)
from gdmunet.workflows.requests.shared import (
    DEFAULT_TRAINER,
    Device,
    device_option,
    epochs_option,
    iterations_option,
    judge_file_option,
    loader_processes_option,
    own_metrics_option,
    plans_option,
    settings_option,
    settings_texts,
)
from gdmunet.workflows.requests.values import COUNT

Tracker = Literal["wandb", "mlflow"]

_DATASET = "number or name of the data set, such as 501"
_CONFIGURATION = "configuration of the plans: 3d_fullres, 3d_lowres or 2d"


@request
class TrainRequest(ProgressRequest):
    """Train one fold of one configuration."""

    synopsis = Synopsis(
        "gdm_train",
        "Train one fold of one configuration, then validate it on whole volumes. Settings that differ from the "
        "trainer's own become part of the results folder's name.",
        folders=("raw", "preprocessed", "results"),
        reads_url=True,
    )
    dataset: str = option(help=_DATASET)
    configuration: str = option(help=_CONFIGURATION)
    fold: str = option(
        help="number of the fold, or all: train on every case (default: %(default)s)",
        default="0",
    )
    trainer: str = option(
        "-tr",
        "--trainer",
        help="trainer by name, or a class of your own as file.py:Class or package.module:Class",
        default=DEFAULT_TRAINER,
    )
    plans: str | None = plans_option()
    epochs: int | None = epochs_option()
    iterations: int | None = iterations_option()
    settings: dict[str, str] = settings_option()
    continue_training: Literal["latest", "auto"] | None = option(
        "--c",
        "--continue",
        help="continue from the latest checkpoint; auto: if there is one, else start, for jobs that are queued again; "
        "default: start",
        default=None,
        const="latest",
        group="start",
    )
    overwrite: bool = option(
        "--overwrite", help="start over, although this fold was trained before", default=False, group="start"
    )
    validate: Literal["final", "best"] | None = switches(
        Switch("--val", "final", "only validate: the final checkpoint on whole volumes"),
        Switch("--val_best", "best", "only validate: the best checkpoint on whole volumes"),
        group="start",
        default=None,
    )
    pretrained_weights: Path | None = option(
        "-pretrained_weights",
        "--pretrained_weights",
        help="checkpoint (.safetensors) of the same network to start from; default: fresh weights",
        default=None,
        metavar="FILE",
    )
    tracker: tuple[Tracker, ...] = option(
        "--tracker",
        help="also send every epoch's numbers and the settings to wandb or mlflow, whose own variables say where to; "
        "TensorBoard writes wherever it is installed; default: none",
        default=(),
    )
    stage: Path | None = option(
        "--stage",
        help="folder of a disk of this machine, to which the fold's prepared cases are copied first; default: none, "
        "they are read where they lie",
        default=None,
        metavar="DIR",
    )
    num_gpus: int = option(
        "-num_gpus",
        "--num_gpus",
        help="GPUs to train and validate on, one process each; a number that divides the batch",
        default=1,
        metavar="N",
        bounds=COUNT,
    )
    device: Device | None = device_option()
    processes: int | None = loader_processes_option()

    @property
    def overrides(self) -> dict[str, str]:
        """All settings that differ from the trainer's own, as texts by name."""
        return settings_texts(self.settings, self.epochs, self.iterations)


@request
class CompareRequest(ProgressRequest):
    """Train, predict and score several trainers on the same folds."""

    synopsis = Synopsis(
        "gdm_compare",
        "Compare trainers on the held-out cases of the same folds: train missing folds (an interrupted run goes on "
        "where it stopped), predict, score, and write one comparison as JSON, CSV, Markdown, LaTeX and an HTML page. A "
        "trainer that fails gets a row that says why.",
        folders=("raw", "preprocessed", "results"),
    )
    dataset: str = option(help=_DATASET)
    configuration: str = option(help=_CONFIGURATION)
    trainers: tuple[str, ...] = option(
        "-tr", "--trainers", help="trainers, as for gdm_train; differences are taken to the first", metavar="TRAINER"
    )
    plans: str | None = plans_option()
    folds: tuple[str, ...] = option(
        "-f", "--folds", help="numbered folds to compare on", default=("0",), metavar="FOLD"
    )
    epochs: int | None = epochs_option()
    iterations: int | None = iterations_option()
    settings: dict[str, str] = settings_option()
    judge: tuple[str, ...] = option(
        "--judge",
        help="encoders that measure the distances between distributions and trained none of the generators; default: "
        "mini and the random tiny, without the plans' own encoder",
        default=(),
        metavar="ENCODER",
    )
    judge_file: Path | None = judge_file_option()
    metric: tuple[str, ...] = own_metrics_option()
    output: Path | None = option(
        "-o",
        "--output",
        help="folder of the comparison; default: comparisons/<plans>__<configuration> in the data set's results folder",
        default=None,
        metavar="DIR",
    )
    device: Device | None = device_option()
    processes: int | None = loader_processes_option()

    def __post_init__(self) -> None:
        """Refuse a fold that holds no case out (RequestError)."""
        super().__post_init__()
        if "all" in self.folds:
            raise RequestError(
                "trainers cannot be compared on fold all, which holds no case out", remedy="give numbered folds with -f"
            )

    @property
    def overrides(self) -> dict[str, str]:
        """The settings of every trainer that differ from its own, as texts by name."""
        return settings_texts(self.settings, self.epochs, self.iterations)
