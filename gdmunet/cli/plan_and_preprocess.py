"""``gdm_plan_and_preprocess``: fingerprint, plans and preprocessing in one command."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.plan_names import first_to_train
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest, PreprocessRequest
from gdmunet.workflows.requests.training import TrainRequest


@command(PlanAndPreprocessRequest)
def main(request: PlanAndPreprocessRequest, folders: Folders) -> PreprocessRequest | TrainRequest:
    """Entry point of ``gdm_plan_and_preprocess``."""
    from gdmunet.workflows import plan_and_preprocess as steps

    plans = steps.plan_and_preprocess(request, folders)[0]
    if not request.preprocess:
        return PreprocessRequest(dataset=request.dataset, plans=plans.name)
    return TrainRequest(
        dataset=request.dataset[0],
        configuration=first_to_train(plans.configurations),
        fold="0" if plans.folds else "all",  # one patient cannot be split
        plans=plans.name,
        trainer=request.trainer,
    )
