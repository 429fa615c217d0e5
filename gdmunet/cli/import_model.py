"""``gdm_import_model``: a packed model into the results folder."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import ImportModelRequest
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.values import Place


@command(ImportModelRequest)
def main(request: ImportModelRequest, folders: Folders) -> PredictRequest:
    """Entry point of ``gdm_import_model``."""
    from gdmunet.progress import say
    from gdmunet.workflows.models import import_model

    model = import_model(request, folders)
    say(f"model: {model}")
    return PredictRequest(input=(Place("INPUT_FOLDER"),), output=Path("OUTPUT_FOLDER"), model=model)
