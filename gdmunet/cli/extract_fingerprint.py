"""``gdm_extract_fingerprint``: measure every training case."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.planning import ExtractFingerprintRequest, PlanExperimentRequest


@command(ExtractFingerprintRequest)
def main(request: ExtractFingerprintRequest, folders: Folders) -> PlanExperimentRequest:
    """Entry point of ``gdm_extract_fingerprint``."""
    from gdmunet.workflows import preparation as steps

    steps.extract_fingerprint(request, folders)
    return PlanExperimentRequest(dataset=request.dataset)
