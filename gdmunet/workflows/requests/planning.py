"""Requests of the commands from raw data to prepared cases."""

from __future__ import annotations

from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.model_names import check_name
from gdmunet.paths import FolderName
from gdmunet.plan_names import ConfigurationName, PresetName
from gdmunet.workflows.requests.declaration import ProgressRequest, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.shared import (
    DEFAULT_TRAINER,
    Device,
    accept_option,
    configurations_option,
    device_option,
    part_id_option,
    parts_option,
    plans_option,
    processes_option,
    scheduler_option,
    trust_option,
)
from gdmunet.workflows.requests.values import COUNT, POSITIVE

_FOLDERS: tuple[FolderName, ...] = ("raw", "preprocessed")


def _clean_option() -> bool:
    return option("--clean", help="prepare every case again, whatever is there", default=False)


@request
class DatasetsRequest(ProgressRequest):
    """Work on each of several raw data sets."""

    dataset: tuple[str, ...] = option("-d", "--dataset", help="numbers or names, such as 501 502", metavar="DATASET")


@request
class CheckedRequest(DatasetsRequest):
    """Choices for the checks of plausibility."""

    accept: tuple[str, ...] = accept_option()


@request
class FingerprintingRequest(CheckedRequest):
    """Choices for measuring every training case."""

    verify_dataset_integrity: bool = option(
        "--verify_dataset_integrity",
        help="first read every case, the test cases too, and list every problem: files, grids, values",
        default=False,
    )


@request
class PlanningRequest(CheckedRequest):
    """Choices for plans."""

    planner: PresetName | None = option(
        "-pl",
        "--planner",
        help="network family; default: plain; on a machine without a GPU tiny, unless -gpu_memory_target or -num_gpus "
        "plan for GPUs elsewhere, as -pl plain does",
        default=None,
    )
    hours: float | None = option(
        "--hours",
        help="hours in which a training on this machine is to end, by the rate of a few steps that are measured; "
        "default: 24 for tiny on a CPU, else the trainer's own length",
        default=None,
        metavar="H",
        bounds=POSITIVE,
    )
    trainer: str = option(
        "-tr",
        "--trainer",
        help="trainer whose memory the plans must fit: name, file.py:Class or package.module:Class",
        default=DEFAULT_TRAINER,
    )
    gpu_memory_target: float | None = option(
        "-gpu_memory_target",
        "--gpu_memory_target",
        help="memory of one training step in GB (1e9 bytes); default: of a card of 8 (M), 24 (L), 40 (XL) or 3.5 GB "
        "(tiny), or of the GPU's free memory if that is less, what is left without 1.5 GB or a tenth; plain: of all "
        "free memory of the GPU, of 8 GB without a GPU",
        default=None,
        metavar="GB",
        bounds=POSITIVE,
    )
    num_gpus: int = option(
        "-num_gpus",
        "--num_gpus",
        help="GPUs that will share every batch in training",
        default=1,
        metavar="N",
        bounds=COUNT,
    )
    encoder: str | None = option(
        "-encoder",
        "--encoder",
        help="frozen encoder of the drift: a name of gdm_download_encoder --list, mae:RUN_FOLDER, nnunet:MODEL_FOLDER, "
        "segmenter:MODEL_FOLDER, file.py:factory; auto: with a GPU the best whose weights are at hand or can be "
        "downloaded, else mini-random, which is built in; default: auto for trainers that use an encoder, else none",
        default=None,
        metavar="NAME",
    )
    encoder_path: Path | None = option(
        "-encoder_path",
        "--encoder_path",
        "--encoder-path",
        help="weights of that encoder, for machines without network; default: the cache, else a download",
        default=None,
        metavar="FILE",
    )
    trust_checkpoint: bool = trust_option()
    overwrite_target_spacing: tuple[float, float, float] | None = option(
        "-overwrite_target_spacing",
        "--overwrite_target_spacing",
        help="working voxel size in mm; default: from the data",
        default=None,
        metavar=("Z", "Y", "X"),
        bounds=POSITIVE,
    )
    overwrite_plans_name: str | None = option(
        "-overwrite_plans_name",
        "--overwrite_plans_name",
        help="name of the plans; default: gdmPlans for plain, gdmPlans_M and so on for the others",
        default=None,
        metavar="NAME",
    )
    splits: Path | None = option(
        "--splits",
        help="JSON file of your own folds, also nnU-Net's splits_final.json; default: five folds by patient",
        default=None,
        metavar="FILE",
    )
    device: Device | None = device_option("device to plan for: its precision and memory")

    def __post_init__(self) -> None:
        """Refuse a name of plans whose models would not be found again (RequestError)."""
        super().__post_init__()
        if self.overwrite_plans_name is not None:
            try:
                check_name("plans", self.overwrite_plans_name, "give another -overwrite_plans_name")
            except GdmError as error:
                raise RequestError(
                    error.problem, found=error.found, expected=error.expected, remedy=error.remedy
                ) from None


@request
class ExtractFingerprintRequest(FingerprintingRequest):
    """Measure every training case."""

    synopsis = Synopsis(
        "gdm_extract_fingerprint",
        "Measure every training case: shapes, spacings and intensities inside the body.",
        folders=_FOLDERS,
    )
    processes: int = processes_option(2)
    num_parts: int = parts_option()
    part_id: int = part_id_option()
    scheduler: str | None = scheduler_option()


@request
class PlanExperimentRequest(PlanningRequest):
    """Decide spacing, patch, network and memory from the fingerprint."""

    synopsis = Synopsis(
        "gdm_plan_experiment",
        "Decide spacing, patch, network and memory from the fingerprint, and print why.",
        folders=_FOLDERS,
    )
    configuration: tuple[ConfigurationName, ...] | None = configurations_option(
        "configurations to plan; default: all that make sense for the data"
    )


@request
class PreprocessRequest(DatasetsRequest):
    """Crop, normalise and resample every training case."""

    synopsis = Synopsis(
        "gdm_preprocess",
        "Crop, normalise and resample every training case as the plans say. Cases that were "
        "made from the same files by the same plans are kept.",
        folders=_FOLDERS,
    )
    plans: str | None = plans_option()
    configuration: tuple[ConfigurationName, ...] | None = configurations_option(
        "configurations to prepare; default: all that the plans have"
    )
    clean: bool = _clean_option()
    processes: int = processes_option(2)
    num_parts: int = parts_option()
    part_id: int = part_id_option()
    scheduler: str | None = scheduler_option()


@request
class PlanAndPreprocessRequest(PlanningRequest, FingerprintingRequest):
    """Fingerprint, plans and preprocessing in one."""

    synopsis = Synopsis(
        "gdm_plan_and_preprocess",
        "Fingerprint, plans and preprocessing in one command. Prints why each choice was made.",
        folders=_FOLDERS,
    )
    configuration: tuple[ConfigurationName, ...] | None = configurations_option(
        "configurations to plan and prepare; default: all that make sense for the data"
    )
    preprocess: bool = option("--no_pp", help="plan only, do not preprocess", default=True)
    clean: bool = _clean_option()
    processes: int = processes_option(2)
    scheduler: str | None = scheduler_option()
