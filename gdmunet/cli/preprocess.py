"""``gdm_preprocess``: prepare every training case as the plans say."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.plan_names import first_to_train
from gdmunet.workflows.requests.planning import PreprocessRequest
from gdmunet.workflows.requests.training import TrainRequest


@command(PreprocessRequest)
def main(request: PreprocessRequest, folders: Folders) -> TrainRequest | PreprocessRequest | None:
    """Entry point of ``gdm_preprocess``."""
    from gdmunet.workflows import preparation as steps
    from gdmunet.workflows.parts import request_of_part

    prepared = steps.preprocess(request, folders)
    if not prepared:
        return None
    for done in prepared:
        if done.missing:
            return request_of_part(request, done.missing.parts[0])
    store = prepared[0].store
    configuration = first_to_train(done.store.configuration for done in prepared)
    return TrainRequest(dataset=request.dataset[0], configuration=configuration, plans=store.plans)
