"""``gdm_report`` and ``gdm_view``: look at an evaluation, a training or a comparison in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gdmunet.cli.arguments import CommandParser, natural_int, positive_float, positive_int, run_command
from gdmunet.results import COMPARISON_FILE, JOURNAL_FILE, REPORT_FILE, SUMMARY_FILE

if TYPE_CHECKING:
    from gdmunet.evaluation.report.content import ReportContent

_FOLDER_TEXT = (
    f"folder with {SUMMARY_FILE} (an evaluation), {JOURNAL_FILE} (a trained fold) or {COMPARISON_FILE} (a comparison)"
)


def parser() -> CommandParser:
    """The flags of ``gdm_report``."""
    command = CommandParser(
        "gdm_report",
        "Write one HTML page that needs no network and no other file: scores, distributions, training curves, slices "
        "of every case with the worst and best ones first, and a viewer.",
    )
    _add_source(command)
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help=f"default: {REPORT_FILE} in the folder")
    command.add_argument(
        "--max_size",
        type=positive_float,
        default=60.0,
        metavar="MB",
        help="largest size of the page, MB of 1e6 bytes",
    )
    command.add_argument(
        "--pictures", type=natural_int, default=100, metavar="N", help="most cases with slices, worst and best first"
    )
    command.add_argument(
        "--volumes",
        type=natural_int,
        default=4,
        metavar="N",
        help="most cases with coarse volumes for the viewer, worst and best first",
    )
    command.add_argument("-np", "--processes", type=positive_int, default=1, metavar="N", help="worker processes")
    return command


def view_parser() -> CommandParser:
    """The flags of ``gdm_view``."""
    command = CommandParser(
        "gdm_view",
        "Show the page of gdm_report with whole volumes of every case, served to this machine alone until Ctrl-C.",
        progress=False,
    )
    _add_source(command)
    command.add_argument("--port", type=natural_int, default=0, metavar="N", help="default: any free port")
    command.add_argument("--open", action="store_true", help="also open the address in the web browser")
    return command


def _add_source(command: CommandParser) -> None:
    command.add_argument("folder", type=Path, help=_FOLDER_TEXT)
    command.add_argument(
        "-i", "--input", type=Path, metavar="DIR", help="folder of the conditions; default: images beside the targets"
    )
    command.add_argument(
        "-ref", "--reference", type=Path, metavar="DIR", help="folder of the targets; default: the one that was scored"
    )
    command.add_argument(
        "-mask", "--mask", type=Path, metavar="DIR", help="folder of the masks; default: the one that was scored with"
    )
    command.add_argument("--channel", type=natural_int, default=0, metavar="N", help="channel of the condition to show")
    command.add_argument(
        "--metric",
        help="score of summary.json that says which cases are the worst and the best; default: the mean absolute error",
    )


@run_command
def main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_report``."""
    arguments = parser().parse_args(argv)
    from gdmunet.evaluation.report.page import PageOptions, write_page

    content = _read(arguments)
    options = PageOptions(
        metric=arguments.metric,
        megabytes=arguments.max_size,
        pictures=arguments.pictures,
        volumes=arguments.volumes,
        processes=arguments.processes,
        show_progress=not arguments.no_pbar,
    )
    written = write_page(content, arguments.output or arguments.folder / REPORT_FILE, options)
    print(
        f"wrote {written.file}: {written.size / 1e6:.1f} MB, {written.cases} cases, {written.pictures} with slices, "
        f"{written.volumes} with volumes"
    )
    return 0


@run_command
def view_main(argv: list[str] | None = None) -> int | None:
    """Entry point of ``gdm_view``."""
    arguments = view_parser().parse_args(argv)
    from gdmunet.evaluation.report.server import ReportServer

    with ReportServer(_read(arguments), arguments.port, arguments.metric) as server:
        print(f"{server.address}\nCtrl-C ends it", flush=True)
        if arguments.open:
            import webbrowser

            webbrowser.open(server.address)
        server.serve_forever()
    return 0


def _read(arguments: argparse.Namespace) -> ReportContent:
    from gdmunet.evaluation.report.sources import VolumeFolders, read_content
    from gdmunet.metrics import DECIDING, metric_of_cases

    arguments.metric = metric_of_cases(arguments.metric or DECIDING).name
    folders = VolumeFolders(arguments.input, arguments.reference, arguments.mask, arguments.channel)
    content = read_content(arguments.folder, folders)
    for note in content.notes:
        print(f"note: {note}")
    return content
