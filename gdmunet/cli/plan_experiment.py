"""``gdm_plan_experiment``: decide spacing, patch, network and memory."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.planning import PlanExperimentRequest, PreprocessRequest


@command(PlanExperimentRequest)
def main(request: PlanExperimentRequest, folders: Folders) -> PreprocessRequest:
    """Entry point of ``gdm_plan_experiment``."""
    from gdmunet.workflows import plan_and_preprocess as steps

    plans = steps.plan_experiment(request, folders)
    return PreprocessRequest(dataset=request.dataset, plans=plans[0].name)
