"""``gdm_simulate_svct``: a data set of sparse-view CT from CT volumes alone."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.arguments import CommandParser, folders_from, natural_int, positive_float, positive_int, run_command
from gdmunet.scan import BACKENDS, BEAMS, FILTERS, MU_WATER, VIEW_PRESETS, ScanSettings


def parser() -> CommandParser:
    """The flags of the command."""
    command = CommandParser(
        "gdm_simulate_svct",
        "Scan CT volumes with few views and reconstruct them: the reconstruction becomes the condition, the CT the "
        "target. Run again after an interruption, it goes on where it stopped.",
        folders=("raw",),
    )
    command.add_argument(
        "-i",
        "--input",
        nargs="+",
        type=Path,
        required=True,
        metavar="PATH",
        help="CTs in HU, or folders of them",
    )
    command.add_argument(
        "-d", "--dataset", type=int, required=True, metavar="NUMBER", help="number of the new data set, 1 to 999"
    )
    command.add_argument("-n", "--name", default="SparseViewCT", help="its name: letters, digits, _ and -")
    add_scan_flags(command)
    command.add_argument(
        "--test",
        nargs="+",
        default=[],
        metavar="CASE",
        help="cases to hold out, by identifier; or one number from 0 to 1, the share of patients; default: none",
    )
    command.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="table with the header case,patient and any further groups; default: every case is a patient of its own",
    )
    command.add_argument(
        "--convex_body",
        action="store_true",
        help="body mask: convex hull in every axial slice, for crops that cut the patient",
    )
    command.add_argument(
        "--save_sinograms",
        action="store_true",
        help="also write sinogramsTr/CASE.npz, for gdm_predict --sinogram",
    )
    command.add_argument("-device", "--device", default="cpu", choices=("cpu", "cuda"), help="of the back end torch")
    command.add_argument("-np", "--processes", type=positive_int, default=2, metavar="N", help="worker processes")
    return command


def add_scan_flags(command: CommandParser) -> None:
    """The flags that say how a scan is simulated."""
    usual = ", ".join(map(str, VIEW_PRESETS))
    command.add_argument("--views", type=positive_int, default=36, metavar="N", help=f"number of views; usual: {usual}")
    command.add_argument(
        "--geometry",
        choices=BEAMS,
        default="parallel",
        help="parallel or fan: slice by slice; cone: the volume at once, with --backend rtk",
    )
    command.add_argument(
        "--range",
        type=int,
        choices=(180, 360),
        metavar="DEGREES",
        help="views lie over 180 or 360 degrees; default: 180 for parallel beams, 360 for others",
    )
    command.add_argument("--start_offset", type=float, default=0.0, metavar="DEGREES", help="angle of the first view")
    command.add_argument(
        "--random_offset", action="store_true", help="each case starts elsewhere, by up to one step between views"
    )
    command.add_argument("--filter", choices=FILTERS, default="ramp", help="of the filtered back-projection")
    command.add_argument("--mu_water", type=positive_float, default=MU_WATER, metavar="PER_MM", help="water, in 1/mm")
    command.add_argument(
        "--i0", type=positive_float, metavar="PHOTONS", help="photons a ray without an object; default: no noise"
    )
    command.add_argument(
        "--electronic_noise", type=float, default=0.0, metavar="PHOTONS", help="its standard deviation; needs --i0"
    )
    command.add_argument("--seed", type=natural_int, default=0, help="of noise and random offset")
    command.add_argument(
        "--field_of_view",
        type=positive_float,
        metavar="MM",
        help="diameter of the circle beyond which there is air; default: the detector covers the slice's diagonal",
    )
    command.add_argument(
        "--source_to_axis", type=positive_float, default=570.0, metavar="MM", help="of fan and cone beams"
    )
    command.add_argument("--backend", choices=BACKENDS, default="torch", help="what projects and reconstructs")


def scan_from(arguments: object) -> ScanSettings:
    """The settings that the flags of `add_scan_flags` say."""
    values = vars(arguments)
    beam = values["geometry"]
    return ScanSettings(
        views=values["views"],
        beam=beam,
        range_degrees=float(values["range"] or (180 if beam == "parallel" else 360)),
        start_degrees=values["start_offset"],
        random_offset=values["random_offset"],
        filter=values["filter"],
        mu_water=values["mu_water"],
        photons=values["i0"],
        electronic_noise=values["electronic_noise"],
        seed=values["seed"],
        field_of_view=values["field_of_view"],
        source_to_axis=values["source_to_axis"],
        backend=values["backend"],
    )


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_simulate_svct``."""
    arguments = parser().parse_args(argv)
    from gdmunet.conversion.held_out import read_groups
    from gdmunet.conversion.sparse_view_dataset import SparseViewOptions, find_ct_files, make_sparse_view_dataset

    made = make_sparse_view_dataset(
        folders_from(arguments).raw,
        arguments.dataset,
        arguments.name,
        find_ct_files(arguments.input),
        scan_from(arguments),
        SparseViewOptions(arguments.convex_body, arguments.save_sinograms, arguments.device),
        test=arguments.test,
        groups=read_groups(arguments.groups) if arguments.groups else None,
        processes=arguments.processes,
        show_progress=not arguments.no_pbar,
    )
    there = f", {len(made.kept)} were there already" if made.kept else ""
    print(f"wrote {made.folder}: {len(made.made)} cases{there}")
    if made.cut:
        print(
            f"note: the patient is cut by the edge of the slices in {', '.join(made.cut)}. A straight cut makes "
            "streaks along it that no scan has: use whole slices if there are some, or --field_of_view MM, a round cut"
        )
    print(f"next: gdm_plan_and_preprocess -d {arguments.dataset} --verify_dataset_integrity")
    return 0
