"""``gdm_extract_fingerprint``: measure every training case."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.planning import ExtractFingerprintRequest, PlanExperimentRequest


@command(ExtractFingerprintRequest)
def main(request: ExtractFingerprintRequest, folders: Folders) -> PlanExperimentRequest | ExtractFingerprintRequest:
    """Entry point of ``gdm_extract_fingerprint``."""
    from gdmunet.parts import OpenParts
    from gdmunet.workflows import preparation as steps
    from gdmunet.workflows.parts import request_of_part

    for found in steps.extract_fingerprint(request, folders):
        if isinstance(found, OpenParts):
            return request_of_part(request, found.parts[0])
    return PlanExperimentRequest(dataset=request.dataset)
