"""``gdm_plan_and_preprocess``: fingerprint, plans and preprocessing in one command."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest


@command(PlanAndPreprocessRequest)
def main(request: PlanAndPreprocessRequest, folders: Folders) -> None:
    """Entry point of ``gdm_plan_and_preprocess``."""
    from gdmunet.workflows import plan_and_preprocess as steps

    steps.plan_and_preprocess(request, folders)
