"""``gdm_export_model``: a trained model as one zip file."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import ExportModelRequest, ImportModelRequest


@command(ExportModelRequest)
def main(request: ExportModelRequest, folders: Folders) -> ImportModelRequest:
    """Entry point of ``gdm_export_model``."""
    from gdmunet.workflows.models import export_model

    file = export_model(request, folders)
    print(f"wrote {file}")
    return ImportModelRequest(file=file)
