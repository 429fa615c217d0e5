"""``gdm_ensemble``: the mean of several folders of predictions."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.quantities import counted
from gdmunet.workflows.requests.evaluation import EvaluateRequest
from gdmunet.workflows.requests.models import EnsembleRequest


@command(EnsembleRequest)
def main(request: EnsembleRequest, folders: Folders) -> EvaluateRequest:
    """Entry point of ``gdm_ensemble``."""
    from gdmunet.progress import say
    from gdmunet.workflows.models import ensemble

    written = ensemble(request, folders)
    say(f"wrote {counted(written, 'average')} into {request.output}")
    return EvaluateRequest(reference=Path("REFERENCE_FOLDER"), prediction=request.output)
