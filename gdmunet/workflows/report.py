"""Pages of results: one file, or served with whole volumes."""

from __future__ import annotations

from gdmunet.atomic import check_writable
from gdmunet.evaluation.report.content import ReportContent
from gdmunet.evaluation.report.page import PageOptions, WrittenPage, write_page
from gdmunet.evaluation.report.server import ReportServer
from gdmunet.evaluation.report.sources import VolumeFolders, read_content
from gdmunet.metrics import DECIDING, metric_of_cases
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.results import REPORT_FILE
from gdmunet.workflows.requests.evaluation import PageRequest, ReportRequest, ViewRequest


def report(request: ReportRequest, _folders: Folders) -> WrittenPage:
    """Write the page of an evaluation, a training or a comparison.

    Raises
    ------
    GdmError
        Unknown metric; nothing in the folder to show.
    """
    options = PageOptions(
        metric=_metric(request),
        megabytes=request.max_size,
        pictures=request.pictures,
        volumes=request.volumes,
        processes=request.processes,
        show_progress=request.show_progress,
    )
    file = request.output or request.folder / REPORT_FILE
    check_writable(file)  # before the work, not after it
    page = write_page(_read(request), file, options)
    check_promised([page.file])
    return page


def view(request: ViewRequest, _folders: Folders) -> ReportServer:
    """A server of the page, bound to its port and not yet serving; it is a context.

    Raises
    ------
    GdmError
        The errors of `report`.
    """
    metric = _metric(request)
    return ReportServer(_read(request), request.port, metric)


def _metric(request: PageRequest) -> str:
    return metric_of_cases(request.metric or DECIDING).name


def _read(request: PageRequest) -> ReportContent:
    folders = VolumeFolders(request.input, request.reference, request.mask, request.channel)
    content = read_content(request.folder, folders)
    for note in content.notes:
        say(f"note: {note}")
    return content
