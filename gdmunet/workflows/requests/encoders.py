"""Requests of the commands about frozen encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.workflows.requests.declaration import ProgressRequest, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.shared import Device, device_option, plans_option, trust_option
from gdmunet.workflows.requests.values import COUNT, NATURAL


def _configuration_option() -> str | None:
    return option(
        "-c",
        "--configuration",
        help="configuration of the plans; default: 3d_fullres, or 2d in 2D",
        default=None,
        metavar="NAME",
    )


def _fold_option() -> str:
    return option("-f", "--fold", help="fold by number, or all", default="0", metavar="K")


def _dimensions_option() -> Literal[2, 3]:
    return option("--dimensions", help="dimensions of the encoder", default=3)


@request
class DownloadEncoderRequest(ProgressRequest):
    """Fetch the weights of an encoder, or list the encoders."""

    synopsis = Synopsis(
        "gdm_download_encoder",
        "Fetch the weights of a frozen encoder into the cache folder and check them; planning finds them there. With "
        "--list, show every encoder, its licence, and whether its weights are at hand.",
    )
    name: str | None = option(help="name of an encoder of --list; default: none, with --list", default=None)
    list: bool = option("-l", "--list", help="list the encoders instead", default=False)
    folder: Path | None = option(
        "-o",
        "--folder",
        help="cache folder; default: $GDM_ENCODERS, else the user's cache",
        default=None,
        metavar="DIR",
    )
    hub: str | None = option(
        "--hub",
        help="base address of the hub; default: $HF_ENDPOINT, else https://huggingface.co",
        default=None,
        metavar="URL",
    )

    def __post_init__(self) -> None:
        """Refuse a request for both or neither (RequestError)."""
        super().__post_init__()
        if self.list == (self.name is not None):
            raise RequestError("give the name of an encoder, or --list", remedy="add one of the two")


@request
class PretrainEncoderRequest(ProgressRequest):
    """Pretrain an encoder on the targets of a data set."""

    synopsis = Synopsis(
        "gdm_pretrain_encoder",
        "Pretrain a frozen encoder on the target volumes of the training cases of a prepared data set. The run folder "
        "is then an encoder: -encoder mae:RUN_FOLDER. After Ctrl-C the same command continues it.",
        folders=("preprocessed", "results"),
    )
    dataset: str = option("-d", "--dataset", help="number or name of the prepared data set", metavar="ID")
    configuration: str | None = _configuration_option()
    fold: str = _fold_option()
    plans: str | None = plans_option()
    dimensions: Literal[2, 3] = _dimensions_option()
    iterations: int = option("--iterations", help="optimiser steps", default=5000, metavar="N", bounds=COUNT)
    crop: int | None = option(
        "--crop",
        help="voxels along each side of a window, a multiple of 16; default: 48 in 3D, 96 in 2D",
        default=None,
        metavar="N",
        bounds=COUNT,
    )
    batch_size: int | None = option(
        "--batch_size",
        help="windows per iteration; default: 4 in 3D, 12 in 2D",
        default=None,
        metavar="N",
        bounds=COUNT,
    )
    seed: int = option("--seed", help="seed of weights and windows", default=0, metavar="N", bounds=NATURAL)
    out: Path | None = option(
        "-o",
        "--out",
        help="run folder; default: encoders/PLANS_CONFIGURATION_fold_K in the data set's results folder",
        default=None,
        metavar="FOLDER",
    )
    overwrite: bool = option("--overwrite", help="start over, although the folder holds a run", default=False)
    device: Device | None = device_option()


@request
class AuditEncoderRequest(ProgressRequest):
    """Measure whether a frozen encoder is worth training against."""

    synopsis = Synopsis(
        "gdm_audit_encoder",
        "Is a frozen encoder worth training against? Level by level: does a shifted, noisy crop find its own place, is "
        "blur punished more than noise of equal error, are channels dead, are input gradients bounded?",
        folders=("preprocessed", "results"),
    )
    encoder: str = option(
        "-e",
        "--encoder",
        help="a name of gdm_download_encoder --list, mae:RUN_FOLDER, nnunet:MODEL_FOLDER, segmenter:MODEL_FOLDER, "
        "file.py:factory",
        default="mini",
        metavar="NAME",
    )
    encoder_path: Path | None = option(
        "--encoder_path",
        "--encoder-path",
        help="weights of the encoder; default: the cache",
        default=None,
        metavar="FILE",
    )
    trust_checkpoint: bool = trust_option()
    input: tuple[Path, ...] = option(
        "-i",
        "--input",
        help="volumes, or folders of them; default: those of -d",
        default=(),
        metavar="FILE",
    )
    modality: str = option("--modality", help="modality of the volumes of -i: CT and CBCT are in HU", default="CT")
    dataset: str | None = option(
        "-d",
        "--dataset",
        help="number or name of the prepared data set, whose validation targets are taken; default: see -i",
        default=None,
        metavar="ID",
    )
    configuration: str | None = _configuration_option()
    fold: str = _fold_option()
    plans: str | None = plans_option()
    dimensions: Literal[2, 3] = _dimensions_option()
    volumes: int = option("--volumes", help="largest number of volumes", default=4, metavar="N", bounds=COUNT)
    windows: int = option("--windows", help="crops per volume", default=4, metavar="N", bounds=COUNT)
    window: int = option("--window", help="voxels along each side of a crop", default=64, metavar="N", bounds=COUNT)
    seed: int = option("--seed", help="seed of crops and noise", default=0, metavar="N", bounds=NATURAL)
    random: bool = option("--random", help="also audit the same network with random weights", default=False)
    json: Path | None = option(
        "--json", help="file for the numbers; default: print them only", default=None, metavar="FILE"
    )

    def __post_init__(self) -> None:
        """Refuse a request without volumes (RequestError)."""
        super().__post_init__()
        if not self.input and self.dataset is None:
            raise RequestError("there are no volumes to audit on", remedy="give files with -i, or a data set with -d")
