"""``gdm_report``: write the page of an evaluation, a training or a comparison."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.quantities import counted
from gdmunet.workflows.requests.evaluation import ReportRequest, ViewRequest


@command(ReportRequest)
def main(request: ReportRequest, folders: Folders) -> ViewRequest:
    """Entry point of ``gdm_report``."""
    from gdmunet.progress import say
    from gdmunet.workflows.report import report

    written = report(request, folders)
    say(
        f"wrote {written.file}: {written.size / 1e6:.1f} MB, {counted(written.cases, 'case')}, {written.pictures} with "
        f"slices, {written.volumes} with volumes"
    )
    return ViewRequest(
        folder=request.folder,
        input=request.input,
        reference=request.reference,
        mask=request.mask,
        channel=request.channel,
        metric=request.metric,
    )
