"""``gdm_ensemble``: the mean of several folders of predictions."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import EnsembleRequest


@command(EnsembleRequest)
def main(request: EnsembleRequest, folders: Folders) -> None:
    """Entry point of ``gdm_ensemble``."""
    from gdmunet.workflows.models import ensemble

    written = ensemble(request, folders)
    print(f"wrote {len(written)} averages into {request.output}")
