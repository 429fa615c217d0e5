"""``gdm_push_model``: a trained model into a repository of a hub."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import PushModelRequest
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.values import Place


@command(PushModelRequest)
def main(request: PushModelRequest, folders: Folders) -> PredictRequest:
    """Entry point of ``gdm_push_model``."""
    from gdmunet.progress import say
    from gdmunet.workflows.models import push

    say(f"pushed: {push(request, folders)}")
    shared = Path(f"hf:{request.repository}")
    return PredictRequest(input=(Place("INPUT_FOLDER"),), output=Path("OUTPUT_FOLDER"), model=shared)
