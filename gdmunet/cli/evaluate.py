"""``gdm_evaluate``: score predictions against references."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.cli.arguments import CommandParser, folders_from, positive_int, run_command
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.results import SUMMARY_FILE

if TYPE_CHECKING:
    from gdmunet.dataset import DatasetDescriptor
    from gdmunet.evaluation.distributions.judge import JudgeOptions


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_evaluate",
        "Score a folder of predictions against a folder of references with the image metrics of SynthRAD2025 and "
        "further ones, by case and by group. Files belong together by their names without the ending.",
        folders=("raw",),
    )
    command.add_argument(
        "-ref", "--reference", type=Path, required=True, metavar="DIR", help="folder of the references (targets)"
    )
    command.add_argument("-pred", "--prediction", type=Path, required=True, metavar="DIR", help="folder of predictions")
    command.add_argument(
        "-mask",
        "--mask",
        type=Path,
        metavar="DIR",
        help="folder of body masks inside which the scores are taken; default: none, the whole volume",
    )
    command.add_argument(
        "--fov",
        type=Path,
        metavar="DIR",
        help="folder of masks of the field of view: scores are taken inside body and field of view; default: none",
    )
    command.add_argument(
        "--labels_ref",
        type=Path,
        metavar="DIR",
        help="folder of label maps of the references (a segmentation of each): adds Dice and HD95; default: none",
    )
    command.add_argument(
        "--labels_pred", type=Path, metavar="DIR", help="folder of label maps of the predictions; default: none"
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"default: {SUMMARY_FILE} in the folder of predictions"
    )
    command.add_argument(
        "-d",
        "--dataset",
        help=f"data set whose {DESCRIPTOR_FILE} gives the groups and the target's unit; default: none",
    )
    command.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="table with the header case,patient and further groups (region, ...) to give the scores by; default: "
        "those of the data set",
    )
    command.add_argument(
        "--synthrad",
        action="store_true",
        help="print the table of the SynthRAD challenge: MAE, PSNR, MS-SSIM (2023: SSIM) and, with label maps, Dice "
        "and HD95 of its structures, by region and over all cases; regions come from -d, --groups or the identifiers",
    )
    command.add_argument(
        "--judge",
        metavar="ENCODER",
        help="also compare predictions and references as distributions (Frechet distance, MMD) in the features of this "
        "encoder, which must not be the one that the generator was trained with; names as for planning; default: none",
    )
    command.add_argument(
        "--judge_path", type=Path, metavar="FILE", help="weights of that encoder; default: package or cache"
    )
    ranges = command.add_mutually_exclusive_group()
    ranges.add_argument(
        "--range",
        choices=("2023", "2025"),
        help="range of HU of that year's SynthRAD (2025: -1024 to 3071; 2023: -1024 to 3000); default: 2025 for CT; "
        "with --synthrad 2023 where all regions are brain or pelvis",
    )
    ranges.add_argument(
        "--data_range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="range in the target's unit; default: for targets other than CT that of each reference",
    )
    command.add_argument("--csv", type=Path, metavar="FILE", help="also write a table, one line a case; default: none")
    command.add_argument("--html", type=Path, metavar="FILE", help="also write a page; default: none")
    command.add_argument(
        "--allow_missing",
        action="store_true",
        help="give a case that cannot be scored a row that says why, instead of stopping",
    )
    command.add_argument("-np", "--processes", type=positive_int, default=1, metavar="N", help="worker processes")
    return command


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_evaluate``."""
    arguments = parser().parse_args(argv)
    from gdmunet.dataset import find_dataset, load_descriptor
    from gdmunet.evaluation.report.page import write_scores_page
    from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
    from gdmunet.evaluation.scores.summary import save_summary
    from gdmunet.evaluation.scores.summary_text import format_table, write_csv
    from gdmunet.evaluation.scores.synthrad import (
        challenge_structures,
        challenge_table,
        challenge_year,
        check_challenge,
    )
    from gdmunet.evaluation.scores.volume_files import EvaluationFolders

    raw = folders_from(arguments).raw
    descriptor = load_descriptor(find_dataset(raw, arguments.dataset)) if arguments.dataset else None
    groups = _groups(arguments, descriptor)
    if arguments.synthrad:
        given = {"mask": arguments.mask, "fov": arguments.fov, "data_range": arguments.data_range}
        check_challenge(**{name: value is not None for name, value in given.items()})
        arguments.range = arguments.range or challenge_year(groups)
    summary = evaluate_folders(
        EvaluationFolders(
            arguments.reference,
            arguments.prediction,
            arguments.mask,
            arguments.fov,
            arguments.labels_ref,
            arguments.labels_pred,
        ),
        EvaluationOptions(
            descriptor=descriptor,
            range_name=arguments.range,
            data_range=tuple(arguments.data_range) if arguments.data_range else None,
            groups=groups,
            structures=challenge_structures(groups) if arguments.synthrad else None,
            judge=_judge(arguments),
            allow_missing=arguments.allow_missing,
            processes=arguments.processes,
            show_progress=not arguments.no_pbar,
        ),
    )
    output = arguments.output or arguments.prediction / SUMMARY_FILE
    save_summary(summary, output)
    if arguments.csv:
        write_csv(summary, arguments.csv)
    if arguments.html:
        write_scores_page(summary, arguments.html)
    print(challenge_table(summary) if arguments.synthrad else format_table(summary))
    print(f"wrote {output}")
    return 0


def _judge(arguments: argparse.Namespace) -> JudgeOptions | None:
    from gdmunet.evaluation.distributions.judge import JudgeOptions
    from gdmunet.paths import downloads_allowed

    if arguments.judge is None:
        return None
    cache = folders_from(arguments).encoders
    return JudgeOptions(arguments.judge, cache, arguments.judge_path, allow_download=downloads_allowed())


def _groups(arguments: argparse.Namespace, descriptor: DatasetDescriptor | None) -> dict[str, dict[str, str]]:
    """The groups of every reference: of SynthRAD's identifiers, the data set, the table; later ones win."""
    from gdmunet.conversion.held_out import read_groups
    from gdmunet.conversion.synthrad_files import challenge_groups
    from gdmunet.dataset import groups_of
    from gdmunet.volume_folders import find_volumes

    table = read_groups(arguments.groups) if arguments.groups else {}
    names = find_volumes(arguments.reference) if arguments.reference.is_dir() else {}
    known = challenge_groups(names) if arguments.synthrad else {}
    return {
        name: known.get(name, {}) | (groups_of(descriptor, name) if descriptor else {}) | table.get(name, {})
        for name in names
    }
