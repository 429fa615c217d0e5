"""``gdm_report``: write the page of an evaluation, a training or a comparison."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.evaluation import ReportRequest


@command(ReportRequest)
def main(request: ReportRequest, folders: Folders) -> None:
    """Entry point of ``gdm_report``."""
    from gdmunet.workflows.report import report

    written = report(request, folders)
    print(
        f"wrote {written.file}: {written.size / 1e6:.1f} MB, {written.cases} cases, {written.pictures} with slices, "
        f"{written.volumes} with volumes"
    )
