"""``gdm_export_model``: a trained model as one zip file."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import ExportModelRequest


@command(ExportModelRequest)
def main(request: ExportModelRequest, folders: Folders) -> None:
    """Entry point of ``gdm_export_model``."""
    from gdmunet.workflows.models import export_model

    print(f"wrote {export_model(request, folders)}")
