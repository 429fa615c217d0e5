"""``gdm_import_model``: a packed model into the results folder."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import ImportModelRequest


@command(ImportModelRequest)
def main(request: ImportModelRequest, folders: Folders) -> None:
    """Entry point of ``gdm_import_model``."""
    from gdmunet.workflows.models import import_model

    print(f"model: {import_model(request, folders)}")
