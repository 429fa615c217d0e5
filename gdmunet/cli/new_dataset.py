"""``gdm_new_dataset``: a raw data set from plain folders of files."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser, folders_from, run_command
from gdmunet.dataset import FILE_ENDINGS
from gdmunet.dataset_names import DESCRIPTOR_FILE


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_new_dataset",
        f"Build DatasetXXX_Name with its {DESCRIPTOR_FILE} from two or three plain folders: images, targets and, if "
        "there are any, body masks. Files belong together by their names.",
        folders=("raw",),
        progress=False,
    )
    command.add_argument(
        "-d", "--dataset", type=int, required=True, metavar="NUMBER", help="number of the new data set, 1 to 999"
    )
    command.add_argument("-n", "--name", required=True, help="name of the new data set: letters, digits, _ and -")
    command.add_argument(
        "-i",
        "--images",
        nargs="+",
        type=Path,
        required=True,
        metavar="DIR",
        help="one folder a condition channel, or one folder whose files end in the channel number (_0000, _0001)",
    )
    command.add_argument("-t", "--targets", type=Path, required=True, metavar="DIR", help="folder of the targets")
    command.add_argument("-m", "--masks", type=Path, metavar="DIR", help="folder of the body masks; default: none")
    command.add_argument(
        "--channel",
        nargs="+",
        required=True,
        metavar="MODALITY",
        help="modality of each condition channel: CT, CBCT, MR, T1, T2, FLAIR, ...",
    )
    command.add_argument("--target", required=True, metavar="MODALITY", help="modality of the target")
    command.add_argument(
        "--image_suffix",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="what follows the identifier in the image files' names (_mr in head_001_mr.nii.gz); only files that "
        "carry it are taken; one a folder; default: none",
    )
    command.add_argument("--target_suffix", default="", metavar="TEXT", help="the same for targets; default: none")
    command.add_argument("--mask_suffix", default="", metavar="TEXT", help="the same for masks; default: none")
    command.add_argument(
        "--test",
        nargs="+",
        default=[],
        metavar="CASE",
        help="cases to hold out, by identifier; or one number from 0 to 1, the share of patients; default: none",
    )
    command.add_argument("--seed", type=int, default=12345, help="seed with which a share of patients is drawn")
    command.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="table with the header case,patient and any further groups (region, ...); default: every case is a "
        "patient of its own",
    )
    command.add_argument(
        "--link",
        choices=("copy", "hardlink", "symlink"),
        default="copy",
        help="copy the files, or link to them",
    )
    command.add_argument(
        "--convert",
        choices=FILE_ENDINGS,
        help="write every file with this ending; default: keep theirs, and refuse a mixture",
    )
    return command


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_new_dataset``."""
    arguments = parser().parse_args(argv)
    from gdmunet.conversion.case_files import Sources
    from gdmunet.conversion.folders import new_dataset
    from gdmunet.conversion.held_out import read_groups

    sources = Sources(
        tuple(arguments.images),
        arguments.targets,
        arguments.masks,
        tuple(arguments.image_suffix),
        arguments.target_suffix,
        arguments.mask_suffix,
    )
    folder = new_dataset(
        folders_from(arguments).raw,
        arguments.dataset,
        arguments.name,
        sources,
        channels=arguments.channel,
        target=arguments.target,
        test=arguments.test,
        groups=read_groups(arguments.groups) if arguments.groups else None,
        transfer=arguments.link,
        file_ending=arguments.convert,
        seed=arguments.seed,
    )
    print(f"wrote {folder}\nnext: gdm_plan_and_preprocess -d {arguments.dataset} --verify_dataset_integrity")
    return 0
