"""Requests of the commands about trained models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from gdmunet.workflows.requests.declaration import ProgressRequest, Request, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.shared import (
    Checkpoint,
    checkpoint_option,
    float_option,
    model_configuration_option,
    model_dataset_option,
    model_folder_option,
    model_folds_option,
    model_plans_option,
    model_trainer_option,
    processes_option,
    scheduler_option,
)


@request
class FindBestConfigurationRequest(ProgressRequest):
    """Compare the trained models of a data set by their validation."""

    synopsis = Synopsis(
        "gdm_find_best_configuration",
        "Compare the trained models of a data set, and pairs of them averaged, by the validation of their folds; "
        "print the commands that predict with the best.",
        folders=("raw", "results"),
    )
    dataset: str = option(help="number or name of the data set, such as 501")
    configuration: tuple[str, ...] | None = option(
        "-c", "--configuration", help="only these configurations; default: all", default=None
    )
    trainer: tuple[str, ...] | None = option("-tr", "--trainer", help="only these trainers; default: all", default=None)
    plans: tuple[str, ...] | None = option("-p", "--plans", help="only these plans; default: all", default=None)
    folds: tuple[str, ...] | None = model_folds_option("only these folds; default: all validated")
    ensembling: bool = option("--disable_ensembling", help="do not try pairs of models", default=True)
    processes: int = processes_option()
    scheduler: str | None = scheduler_option()


@request
class EnsembleRequest(ProgressRequest):
    """Average the predictions of several folders."""

    synopsis = Synopsis("gdm_ensemble", "Average the predictions of several folders, case by case.")
    input: tuple[Path, ...] = option("-i", "--input", help="two or more folders of predictions", metavar="DIR")
    output: Path = option("-o", "--output", help="folder for the averages", metavar="DIR")
    as_float: bool = float_option()


@request
class ExportModelRequest(Request):
    """Pack a trained model into one file, or write its network for other programs."""

    synopsis = Synopsis(
        "gdm_export_model",
        "Pack a trained model into one zip file (plans, weights and settings, no code), or write a folder that builds "
        "into a container, or its network, the mean of its folds, for programs without gdmunet.",
        folders=("results",),
    )
    output: Path = option(
        "-o", "--output", help="the zip file to write; of a container or a network the folder", metavar="PATH"
    )
    format: Literal["zip", "onnx", "torch_export", "monai"] = option(
        "--format",
        help="zip: the model for gdm_import_model; onnx or torch_export (PyTorch's exported program): the network, and "
        "a JSON of normalisation, geometry and windows; monai: a MONAI bundle of both, which runs without gdmunet",
        default="zip",
        group="form",
    )
    container: Literal["synthrad2025"] | None = option(
        "--container",
        help="write a folder that builds into an algorithm of that challenge on grand-challenge.org: Dockerfile, "
        "gdmunet, model, pinned requirements; default: a zip file",
        default=None,
        group="form",
    )
    model: Path | None = model_folder_option("folder of the model")
    dataset: str | None = model_dataset_option()
    configuration: str | None = model_configuration_option()
    trainer: str | None = model_trainer_option()
    plans: str | None = model_plans_option()
    folds: tuple[str, ...] | None = model_folds_option(
        "folds to pack; default: all that have the checkpoint; of a network all numbered ones"
    )
    checkpoint: Checkpoint = checkpoint_option()


@request
class PushModelRequest(Request):
    """Share a trained model on a hub."""

    synopsis = Synopsis(
        "gdm_push_model",
        "Put a trained model into a repository of a hub (huggingface.co, or HF_ENDPOINT), with a card written from its "
        "plans and scores. Whoever may read it predicts with -m hf:owner/name. It needs a login: hf auth login.",
        folders=("results",),
    )
    repository: str = option(help="repository owner/name; made if it is not there")
    model: Path | None = model_folder_option("folder of the model")
    dataset: str | None = model_dataset_option()
    configuration: str | None = model_configuration_option()
    trainer: str | None = model_trainer_option()
    plans: str | None = model_plans_option()
    folds: tuple[str, ...] | None = model_folds_option("folds to share; default: all that have the checkpoint")
    checkpoint: Checkpoint = checkpoint_option()
    licence: str | None = option(
        "--licence", help="licence of the weights, such as cc-by-4.0; default: not said", default=None
    )
    private: bool = option("--private", help="make the repository a private one", default=False)

    def __post_init__(self) -> None:
        """Refuse a name that is not owner/name (RequestError)."""
        super().__post_init__()
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise RequestError(f"{self.repository} is not a repository", remedy="name it owner/name")


@request
class ImportModelRequest(Request):
    """Unpack a model into the results folder."""

    synopsis = Synopsis(
        "gdm_import_model",
        "Unpack a model that gdm_export_model packed into the results folder.",
        folders=("results",),
    )
    file: Path = option(help="the zip file")
    overwrite: bool = option("--overwrite", help="replace a model of that name with all its folds", default=False)


@request
class TrustRequest(Request):
    """Allow the code in a file to run when plans name it."""

    synopsis = Synopsis(
        "gdm_trust",
        "Allow a file to run when plans name it: the factory of an encoder, or weights in a pickle. Only its present "
        "content is allowed, on this machine and for this user. Plans of others can name a file, and never allow one.",
    )
    file: Path | None = option(help="file that plans name; default: list the allowed ones", default=None)
    withdraw: bool = option("--withdraw", help="no longer allow the file", default=False)

    def __post_init__(self) -> None:
        """Refuse a withdrawal without a file (RequestError)."""
        super().__post_init__()
        if self.withdraw and self.file is None:
            raise RequestError("--withdraw needs the file that is no longer allowed", remedy="name the file")
