"""Options that several requests share, each said once."""

from __future__ import annotations

import contextlib
import typing
from pathlib import Path
from typing import Literal

from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.plan_names import DEFAULT_PLANS, ConfigurationName
from gdmunet.plausibility.checks import CHECKS
from gdmunet.workflows.requests.declaration import Request, option
from gdmunet.workflows.requests.values import COUNT, NATURAL

Device = Literal["cuda", "cpu"]
Checkpoint = Literal["best", "final", "latest"]

# The trainer of gdm_train and of plans; the registry of trainers holds its class.
DEFAULT_TRAINER = "GDMTrainerTransport"

NEW_NUMBER = "number of the new data set, 1 to 999"
HELD_OUT = "cases to hold out, by identifier; or one number from 0 to 1, the share of patients; default: none"

_BEST_DEVICE = "default: cuda where there is one, else cpu"
_ANY_MODEL = "default: any, if only one model fits"


def device_option(purpose: str = "computing device") -> Device | None:
    """``-device``; None: the best that is there."""
    return option("-device", "--device", help=f"{purpose}; {_BEST_DEVICE}", default=None)


def processes_option(default: int = 1, text: str = "worker processes") -> int:
    """``-np`` of a command that works case by case."""
    return option("-np", "--processes", help=text, default=default, metavar="N", bounds=COUNT)


def scheduler_option() -> str | None:
    """``--scheduler`` of a command that works case by case."""
    return option(
        "--scheduler",
        help="Dask scheduler whose workers do the cases: tcp://HOST:PORT, or local:N for N workers of this machine; "
        "default: the processes of -np",
        default=None,
        metavar="ADDRESS",
    )


def parts_option() -> int:
    """``-num_parts`` of a command that works case by case."""
    return option(
        "-num_parts",
        "--num_parts",
        help="cut the cases into N parts for several processes or machines; any order, the same result",
        default=1,
        metavar="N",
        bounds=COUNT,
    )


def part_id_option() -> int:
    """``-part_id`` of a command that works case by case."""
    return option("-part_id", "--part_id", help="do part K, from 0 to N - 1", default=0, metavar="K", bounds=NATURAL)


def scheduled(request: Request) -> contextlib.AbstractContextManager[None]:
    """Inside, cases go to the scheduler that a request names; as elsewhere if it names none."""
    address = getattr(request, "scheduler", None)
    if address is None:
        return contextlib.nullcontext()
    from gdmunet.workers import on_scheduler  # psutil, which --help need not read

    return on_scheduler(address)


def check_url(request: Request, folders: Folders) -> None:
    """Refuse prepared data sets behind a URL for a command that does not read them there (GdmError)."""
    synopsis = request.synopsis
    if folders.preprocessed_url is not None and "preprocessed" in synopsis.folders and not synopsis.reads_url:
        raise GdmError(
            f"{synopsis.name} reads prepared data sets from a folder, not from a URL",
            file=folders.preprocessed_url,
            remedy="give a folder as --preprocessed or GDM_PREPROCESSED; plan and prepare there, then upload it",
        )


def loader_processes_option() -> int | None:
    """``-np`` of a command that trains; None: chosen from device and processor cores."""
    return option(
        "-np",
        "--processes",
        help="background processes that load patches, 0: none; default: chosen from device and processor cores",
        default=None,
        metavar="N",
        bounds=NATURAL,
    )


def epochs_option() -> int | None:
    """``--epochs``; None: the trainer's setting."""
    return option("--epochs", help="epochs; default: the trainer's setting", default=None, metavar="N", bounds=COUNT)


def iterations_option() -> int | None:
    """``--iterations``; None: the trainer's setting."""
    return option(
        "--iterations",
        help="optimiser steps in total, over all epochs; default: the trainer's setting",
        default=None,
        metavar="N",
        bounds=COUNT,
    )


def settings_option() -> dict[str, str]:
    """``--set``: settings of the trainer as texts by name."""
    return option("--set", help="override settings of the trainer; default: none", default={}, metavar="NAME=VALUE")


def settings_texts(settings: dict[str, str], epochs: int | None, iterations: int | None) -> dict[str, str]:
    """All overridden settings as texts by name; the two lengths win over ``--set``."""
    lengths = {"epochs": epochs, "iterations": iterations}
    return settings | {name: str(length) for name, length in lengths.items() if length is not None}


def configurations_option(text: str) -> tuple[ConfigurationName, ...] | None:
    """``-c`` of a command for several configurations."""
    names = ", ".join(typing.get_args(ConfigurationName))
    return option("-c", "--configuration", help=f"{text}; any of {names}", default=None, metavar="CONFIGURATION")


def plans_option() -> str | None:
    """``-p``; None: the only plans of the data set, or gdmPlans."""
    text = f"name of the plans; default: the only ones of the data set, or {DEFAULT_PLANS} of several"
    return option("-p", "--plans", help=text, default=None)


def float_option() -> bool:
    """``--float``."""
    return option("--float", help="write float32 also where integers would do (CT)", default=False)


def model_folder_option(text: str) -> Path | None:
    """``-m``."""
    return option("-m", "--model", help=f"{text}; default: found in the results folder", default=None, metavar="DIR")


def model_folds_option(text: str) -> tuple[str, ...] | None:
    """``-f``: folds of a model."""
    return option("-f", "--folds", help=text, default=None, metavar="FOLD")


def model_dataset_option() -> str | None:
    """``-d`` of a command that looks for a trained model."""
    return option(
        "-d",
        "--dataset",
        help=f"number or name of the data set that the model was trained on; {_ANY_MODEL}",
        default=None,
    )


def model_configuration_option() -> str | None:
    """``-c`` of a command that looks for a trained model."""
    return option("-c", "--configuration", help=f"configuration; {_ANY_MODEL}", default=None)


def model_trainer_option() -> str | None:
    """``-tr`` of a command that looks for a trained model."""
    return option("-tr", "--trainer", help=f"trainer as in the name of the results folder; {_ANY_MODEL}", default=None)


def model_plans_option() -> str | None:
    """``-p`` of a command that looks for a trained model."""
    return option("-p", "--plans", help=f"name of the plans; {_ANY_MODEL}", default=None)


def checkpoint_option() -> Checkpoint:
    """``-chk``."""
    return option("-chk", "--checkpoint", help="which weights", default="best")


def trust_option() -> bool:
    """``--trust_checkpoint``."""
    return option(
        "--trust_checkpoint",
        "--trust-checkpoint",
        help="read encoder weights from a pickle that may run code; only for files that you trust",
        default=False,
    )


def own_metrics_option() -> tuple[str, ...]:
    """``--metric``: metrics of the user's own."""
    return option(
        "--metric",
        help="further metrics: described functions of your own, whose code is run; default: none",
        default=(),
        metavar="FILE.py:FUNCTION",
    )


def judge_file_option() -> Path | None:
    """``--judge_path``."""
    return option(
        "--judge_path", help="weights of that encoder; default: package or cache", default=None, metavar="FILE"
    )


def accept_series_option(condition: str) -> tuple[str, ...]:
    """``--accept``: checks of DICOM series that the user insists on."""
    return option(
        "--accept",
        help=f"{condition}: checks to insist on: modality (a series that is not of its channel's modality), patient "
        "(series of one case with different patient IDs); default: none",
        default=(),
        metavar="CHECK",
        choices=("modality", "patient"),
    )


def accept_option() -> tuple[str, ...]:
    """``--accept``: checks of plausibility whose findings are accepted."""
    return option(
        "--accept",
        help="checks to insist on: what they find ends nothing; see How to check your data; any of "
        f"{', '.join(CHECKS)}; default: none",
        default=(),
        metavar="CHECK",
        choices=tuple(CHECKS),
    )


def held_out_option(text: str) -> tuple[str, ...]:
    """``--test``: held-out cases, or one number that is the share of patients."""
    return option("--test", help=text, default=(), metavar="CASE")


def groups_option(text: str) -> Path | None:
    """``--groups``: a table of patients."""
    return option("--groups", help=text, default=None, metavar="CSV")
