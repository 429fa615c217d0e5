"""``gdm_convert_synthrad2025``: a raw data set from the archives of SynthRAD2025 or SynthRAD2023."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser, folders_from, run_command


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_convert_synthrad2025",
        "Build DatasetXXX_Name from the unpacked archives of SynthRAD2025 or SynthRAD2023, with region and centre as "
        "groups. Cases are found by the names of their folders, at any depth; overviews and copies are ignored.",
        folders=("raw",),
    )
    command.add_argument(
        "-i",
        "--input",
        nargs="+",
        type=Path,
        required=True,
        metavar="DIR",
        help="folders in which the archives were unpacked (training, validation input, ...)",
    )
    command.add_argument(
        "-d", "--dataset", type=int, required=True, metavar="NUMBER", help="number of the new data set, 1 to 999"
    )
    command.add_argument("-n", "--name", help="name of the new data set; default: SynthRAD2025Task1 and so on")
    command.add_argument(
        "--task",
        type=int,
        choices=(1, 2),
        help="1: MR to CT, 2: CBCT to CT; default: the one that is there",
    )
    command.add_argument(
        "--regions",
        nargs="+",
        choices=("AB", "HN", "TH", "brain", "pelvis"),
        metavar="REGION",
        help="only these: AB, HN, TH (2025), brain, pelvis (2023); default: all that are there",
    )
    command.add_argument(
        "--year", choices=("auto", "2023", "2025"), default="auto", help="year; auto: the one that is there"
    )
    command.add_argument(
        "--target",
        choices=("deformed", "rigid"),
        default="deformed",
        help="deformed: the deformed CT, on which SynthRAD2025 scores, where a case has one (ct_def); rigid: always ct",
    )
    command.add_argument(
        "--link",
        nargs="?",
        choices=("copy", "hardlink", "symlink"),
        const="symlink",
        default="copy",
        help="copy the files, or link to them; --link alone is --link symlink",
    )
    command.add_argument(
        "--skip_incomplete", action="store_true", help="leave cases out that lack a file; they are listed"
    )
    return command


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_convert_synthrad2025``."""
    arguments = parser().parse_args(argv)
    from gdmunet.conversion.synthrad import convert_synthrad

    result = convert_synthrad(
        arguments.input,
        folders_from(arguments).raw,
        arguments.dataset,
        arguments.name,
        task=arguments.task,
        regions=arguments.regions,
        year=None if arguments.year == "auto" else arguments.year,
        target=arguments.target,
        transfer=arguments.link,
        skip_incomplete=arguments.skip_incomplete,
        show_progress=not arguments.no_pbar,
    )
    print(result.report())
    planning = f"gdm_plan_and_preprocess -d {arguments.dataset} --verify_dataset_integrity"
    prediction = f"gdm_predict -i {result.folder / 'imagesTs'} -o PREDICTIONS"
    print(f"wrote {result.folder}\nnext: {planning if result.training else prediction}")
    return 0
