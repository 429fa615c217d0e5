"""``gdm_extract_fingerprint``, ``gdm_plan_experiment``, ``gdm_preprocess``, and all three in one command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.cli.arguments import CommandParser, folders_from, positive_float, positive_int, run_command

if TYPE_CHECKING:
    from gdmunet.plans import Plans
    from gdmunet.preprocessing.planned_encoder import EncoderWish
    from gdmunet.training.trainers.trainer import Trainer

_CONFIGURATIONS = ("3d_fullres", "3d_lowres", "2d")
_PRESETS = ("plain", "M", "L", "XL", "tiny")


def extract_fingerprint_parser() -> CommandParser:
    """The flags of ``gdm_extract_fingerprint``."""
    command = _parser(
        "gdm_extract_fingerprint",
        "Measure every training case: shapes, spacings and intensities inside the body.",
    )
    _add_fingerprint(command)
    _add_processes(command)
    return command


def plan_experiment_parser() -> CommandParser:
    """The flags of ``gdm_plan_experiment``."""
    command = _parser(
        "gdm_plan_experiment",
        "Decide spacing, patch, network and memory from the fingerprint, and print why.",
    )
    _add_planning(command)
    _add_configurations(command, "configurations to plan; default: all that make sense for the data")
    return command


def preprocess_parser() -> CommandParser:
    """The flags of ``gdm_preprocess``."""
    command = _parser(
        "gdm_preprocess",
        "Crop, normalise and resample every training case as the plans say. Cases that are there already, made from "
        "the same files by the same plans, are left as they are.",
    )
    command.add_argument("-p", "--plans", default="gdmPlans", help="name of the plans")
    _add_configurations(command, "configurations to prepare; default: all that the plans have")
    _add_clean(command)
    _add_processes(command)
    return command


def plan_and_preprocess_parser() -> CommandParser:
    """The flags of ``gdm_plan_and_preprocess``."""
    command = _parser(
        "gdm_plan_and_preprocess",
        "Fingerprint, plans and preprocessing in one command. Prints why each choice was made.",
    )
    _add_fingerprint(command)
    _add_planning(command)
    _add_configurations(command, "configurations to plan and prepare; default: all that make sense for the data")
    command.add_argument("--no_pp", action="store_true", help="plan only, do not preprocess")
    _add_clean(command)
    _add_processes(command)
    return command


@run_command
def extract_fingerprint_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_extract_fingerprint``."""
    arguments = extract_fingerprint_parser().parse_args(argv)
    for dataset in arguments.dataset:
        _extract(dataset, arguments)
    return 0


@run_command
def plan_experiment_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_plan_experiment``."""
    arguments = plan_experiment_parser().parse_args(argv)
    for dataset in arguments.dataset:
        _plan(dataset, arguments)
    return 0


@run_command
def preprocess_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_preprocess``."""
    arguments = preprocess_parser().parse_args(argv)
    from gdmunet.dataset import find_dataset
    from gdmunet.plans import find_plans

    folders = folders_from(arguments)
    for dataset in arguments.dataset:
        name = find_dataset(folders.raw, dataset).name
        _preprocess(name, find_plans(folders.preprocessed / name, arguments.plans), arguments)
    return 0


@run_command
def plan_and_preprocess_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_plan_and_preprocess``."""
    arguments = plan_and_preprocess_parser().parse_args(argv)
    for dataset in arguments.dataset:
        _extract(dataset, arguments)
        plans = _plan(dataset, arguments)
        if not arguments.no_pp:
            _preprocess(plans.dataset_name, plans, arguments)
    return 0


def _extract(dataset: str, arguments: argparse.Namespace) -> None:
    from gdmunet.dataset import find_dataset
    from gdmunet.preprocessing.fingerprint import extract_fingerprint

    folders = folders_from(arguments)
    dataset_folder = find_dataset(folders.raw, dataset)
    fingerprint = extract_fingerprint(
        dataset_folder,
        folders.preprocessed / dataset_folder.name,
        arguments.processes,
        not arguments.no_pbar,
        verify=arguments.verify_dataset_integrity,
    )
    print(f"{dataset_folder.name}: fingerprint of {len(fingerprint.cases)} training cases")


def _plan(dataset: str, arguments: argparse.Namespace) -> Plans:
    from gdmunet.dataset import find_dataset
    from gdmunet.device import find_device, free_memory_gb
    from gdmunet.preprocessing.planned_encoder import largest_footprint
    from gdmunet.preprocessing.planner import format_reasons
    from gdmunet.workflows.plan import run_planning

    folders, device, served = folders_from(arguments), find_device(arguments.device), _served(arguments)
    dataset_folder = find_dataset(folders.raw, dataset)
    # The residual presets and tiny are made for a memory of their own; plain takes what the GPU has.
    free = free_memory_gb(device) if arguments.planner == "plain" else None
    # Kernel workspaces, rounding and fragmentation come on top of what is counted.
    budget = 0.9 * free if free else None
    plans = run_planning(
        dataset_folder,
        folders.preprocessed / dataset_folder.name,
        preset=arguments.planner,
        footprint=largest_footprint([kind.footprint for kind in served]),
        choose=_encoder_wish(arguments, device.type) if served[-1].uses_encoder else None,
        trainer=" and ".join(kind.__name__ for kind in served),
        precision=served[0].precision_on(device),
        memory_budget_gb=arguments.gpu_memory_target or budget,
        plans_name=arguments.overwrite_plans_name,
        configurations=arguments.configuration,
        target_spacing=arguments.overwrite_target_spacing,
    )
    print(
        f"{plans.dataset_name}: plans {plans.name} with {', '.join(plans.configurations)}\n\n{format_reasons(plans)}\n"
    )
    return plans


def _served(arguments: argparse.Namespace) -> list[type[Trainer]]:
    """The trainers whose steps must fit: with an encoder that the named one does not use, the one that needs it too."""
    from gdmunet.training.trainers.registry import DEFAULT_TRAINER, find_trainer

    named = find_trainer(arguments.trainer)
    if named.uses_encoder or (arguments.encoder is None and arguments.encoder_path is None):
        return [named]
    return [named, find_trainer(DEFAULT_TRAINER)]


def _encoder_wish(arguments: argparse.Namespace, device: str) -> EncoderWish:
    from gdmunet.encoders.choice import AUTO, EncoderOptions
    from gdmunet.encoders.download import DownloadOptions
    from gdmunet.paths import downloads_allowed
    from gdmunet.preprocessing.planned_encoder import EncoderWish

    options = EncoderOptions(
        folders_from(arguments).encoders,
        arguments.encoder_path,
        allow_download=downloads_allowed(),
        allow_large=device != "cpu",
        trust_checkpoint=arguments.trust_checkpoint,
        download=DownloadOptions(show_progress=not arguments.no_pbar),
    )
    return EncoderWish(arguments.encoder or AUTO, options)


def _preprocess(dataset_name: str, plans: Plans, arguments: argparse.Namespace) -> None:
    from gdmunet.workflows.preprocess import preprocess

    folders = folders_from(arguments)
    wanted = arguments.configuration or plans.configurations
    for configuration in [name for name in wanted if name in plans.configurations]:
        done = preprocess(
            folders.raw / dataset_name,
            folders.preprocessed / dataset_name,
            plans,
            configuration,
            arguments.processes,
            not arguments.no_pbar,
            clean=arguments.clean,
        )
        print(f"{configuration}: {len(done.prepared)} cases prepared, {len(done.unchanged)} unchanged: {done.folder}")


def _parser(command: str, description: str) -> CommandParser:
    parser = CommandParser(command, description, folders=("raw", "preprocessed"))
    parser.add_argument(
        "-d", "--dataset", nargs="+", required=True, metavar="DATASET", help="numbers or names, such as 501 502"
    )
    return parser


def _add_fingerprint(command: CommandParser) -> None:
    command.add_argument(
        "--verify_dataset_integrity",
        action="store_true",
        help="first read every case, the test cases too, and list every problem: files, grids, values",
    )


def _add_planning(command: CommandParser) -> None:
    command.add_argument(
        "-pl", "--planner", choices=_PRESETS, default="plain", help="network family; tiny is for CPUs and teaching"
    )
    command.add_argument(
        "-tr", "--trainer", default="GDMTrainer", help="trainer whose memory the plans must fit: name, "
        "file.py:Class or package.module:Class",
    )  # fmt: skip
    command.add_argument(
        "-gpu_memory_target",
        "--gpu_memory_target",
        type=positive_float,
        metavar="GB",
        help="memory of one training step in GB (1e9 bytes); default: plain: the GPU's free memory, 8 without a GPU; "
        "M 8, L 24, XL 40, tiny 2",
    )
    command.add_argument(
        "-encoder",
        "--encoder",
        metavar="NAME",
        help="frozen encoder of the drift: a name of gdm_download_encoder --list, mae:RUN_FOLDER, nnunet:MODEL_FOLDER, "
        "file.py:factory; auto: with a GPU the best whose weights are at hand or can be downloaded, else the built-in "
        "mini; default: auto for trainers that use an encoder, else none",
    )
    command.add_argument(
        "-encoder_path", "--encoder_path", "--encoder-path", type=Path, metavar="FILE",
        help="weights of that encoder, for machines without network; default: the cache, else a download",
    )  # fmt: skip
    command.add_argument(
        "--trust_checkpoint",
        "--trust-checkpoint",
        action="store_true",
        help="read encoder weights from a pickle that may run code; only for files that you trust",
    )
    command.add_argument(
        "-overwrite_target_spacing",
        "--overwrite_target_spacing",
        type=positive_float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="working voxel size in mm; default: from the data",
    )
    command.add_argument(
        "-overwrite_plans_name", "--overwrite_plans_name", metavar="NAME",
        help="name of the plans; default: gdmPlans for plain, gdmPlans_M and so on for the others",
    )  # fmt: skip
    command.add_argument(
        "-device",
        "--device",
        choices=("cuda", "cpu", "mps"),
        help="device to plan for: its precision and memory; default: cuda where there is one, else mps, else cpu",
    )


def _add_configurations(command: CommandParser, text: str) -> None:
    command.add_argument(
        "-c", "--configuration", nargs="+", choices=_CONFIGURATIONS, metavar="CONFIGURATION",
        help=f"{text}; any of {', '.join(_CONFIGURATIONS)}",
    )  # fmt: skip


def _add_clean(command: CommandParser) -> None:
    command.add_argument("--clean", action="store_true", help="prepare every case again, whatever is there")


def _add_processes(command: CommandParser) -> None:
    command.add_argument("-np", "--processes", type=positive_int, default=2, metavar="N", help="worker processes")
