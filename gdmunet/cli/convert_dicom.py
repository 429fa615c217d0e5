"""``gdm_convert_dicom``: DICOM series to volumes and data sets, and CT volumes to DICOM series."""

from __future__ import annotations

import argparse
from pathlib import Path

from gdmunet.cli.arguments import CommandParser, folders_from, positive_int, run_command


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_convert_dicom",
        "A DICOM series to a volume (-i FOLDER -o FILE), a folder of cases to a data set (-i FOLDER -d NUMBER), or a "
        "CT volume to a DICOM series (-i FILE -o FOLDER). With -i FOLDER alone the series of the folder are listed.",
        folders=("raw",),
    )
    command.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        metavar="PATH",
        help="folder of DICOM files (of case folders with -d); or a CT volume file, in HU",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="volume file such as ct.nii.gz; or folder of the new series; default: list the series of -i",
    )
    command.add_argument(
        "--series", metavar="SERIES", help="number or UID of the series; default: the only one that is a volume"
    )
    command.add_argument(
        "--fix-geometry",
        action="store_true",
        help="resample uneven, missing, doubled or tilted slices onto a regular grid (default: refuse them)",
    )
    _add_writing(command)
    _add_dataset(command)
    return command


def _add_writing(command: CommandParser) -> None:
    command.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="with -i FILE: folder of the series that the CT was made from (--series chooses one), whose patient, "
        "study and frame of reference are kept; default: a new study, with the file's name as patient ID",
    )
    command.add_argument(
        "--description",
        metavar="TEXT",
        help="with -i FILE: series description, marked as synthetic; default: Synthetic CT",
    )


def _add_dataset(command: CommandParser) -> None:
    command.add_argument(
        "-d",
        "--dataset",
        type=int,
        metavar="NUMBER",
        help="number of the new data set, 1 to 999; default: none is made",
    )
    command.add_argument("-n", "--name", default="Dicom", help="with -d: name of the new data set")
    command.add_argument(
        "--channel", nargs="+", default=["MR"], metavar="MODALITY", help="with -d: modality of each condition channel"
    )
    command.add_argument("--target", default="CT", metavar="MODALITY", help="with -d: modality of the target")
    command.add_argument(
        "--condition_folder",
        nargs="+",
        default=["condition"],
        metavar="NAME",
        help="with -d: the sub-folder of each case that holds the condition; one a channel",
    )
    command.add_argument(
        "--target_folder", default="target", metavar="NAME", help="with -d: the sub-folder that holds the target"
    )
    command.add_argument(
        "--resample",
        action="store_true",
        help="with -d: interpolate target and further channels onto the grid of the first channel (default: refuse "
        "cases of several grids)",
    )
    command.add_argument(
        "--test", nargs="+", default=[], metavar="CASE", help="with -d: cases to hold out, or a share of the patients"
    )
    command.add_argument("--seed", type=int, default=12345, help="with -d: seed with which a share is drawn")
    command.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="with -d: table of case,patient[,region ...]; default: cases of one patient ID are one patient",
    )
    command.add_argument(
        "-np", "--processes", type=positive_int, default=1, metavar="N", help="with -d: cases converted at a time"
    )


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_convert_dicom``."""
    command = parser()
    arguments = command.parse_args(argv)
    if arguments.dataset is not None:
        if arguments.output or arguments.series or arguments.reference:
            command.error("-d builds a data set: leave -o, --series and --reference away")
        _dataset(arguments)
    elif arguments.input.is_file():
        if arguments.output is None:
            command.error("-o FOLDER is needed to write a DICOM series")
        _to_dicom(arguments)
    elif arguments.reference or arguments.description:
        command.error("--reference and --description belong to -i FILE, a volume to be written as DICOM")
    elif arguments.output is None:
        _list(arguments)
    else:
        _to_volume(arguments)
    return 0


def _list(arguments: argparse.Namespace) -> None:
    from gdmunet.dicom.series import scan_series
    from gdmunet.dicom.slices import count_other_files

    found = scan_series(arguments.input)
    print(f"{len(found)} series in {arguments.input}: number, modality, images, description, UID")
    for series in found:
        print(series)
    if others := count_other_files(arguments.input):
        print(f"other files, left out: {others} (they do not begin as DICOM files do: 128 bytes, then DICM)")


def _to_volume(arguments: argparse.Namespace) -> None:
    from gdmunet.conversion.dicom_volumes import series_to_volume

    read = series_to_volume(arguments.input, arguments.output, arguments.series, arguments.fix_geometry)
    geometry = read.volume.geometry
    spacing = " x ".join(f"{value:.4g}" for value in geometry.spacing)
    print(f"wrote {arguments.output} from series\n{read.series}")
    print(f"  {geometry.shape[0]} x {geometry.shape[1]} x {geometry.shape[2]} voxels of {spacing} mm (z y x)")
    for repair in read.repairs:
        print(f"  resampled onto a regular grid; {repair}")


def _to_dicom(arguments: argparse.Namespace) -> None:
    from gdmunet.conversion.dicom_volumes import volume_to_series

    written = volume_to_series(
        arguments.input, arguments.output, arguments.reference, arguments.series, arguments.description
    )
    print(f"wrote {written.slices} slices into {arguments.output}, series {written.uid}")
    if written.rounded:
        print("  values were rounded to whole HU")


def _dataset(arguments: argparse.Namespace) -> None:
    from gdmunet.conversion.dicom_dataset import DicomLayout, convert_dicom_dataset
    from gdmunet.conversion.held_out import read_groups

    done = convert_dicom_dataset(
        DicomLayout(arguments.input, tuple(arguments.condition_folder), arguments.target_folder),
        folders_from(arguments).raw,
        arguments.dataset,
        arguments.name,
        channels=arguments.channel,
        target=arguments.target,
        test=arguments.test,
        groups=read_groups(arguments.groups) if arguments.groups else None,
        fix_geometry=arguments.fix_geometry,
        resample=arguments.resample,
        seed=arguments.seed,
        processes=arguments.processes,
        show_progress=not arguments.no_pbar,
    )
    for note in done.notes:
        print(note)
    print(f"wrote {done.folder}, {len(done.cases)} cases")
    print(f"next: gdm_plan_and_preprocess -d {arguments.dataset} --verify_dataset_integrity")
