"""``gdm_new_dataset``: a raw data set from plain folders of files."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.datasets import NewDatasetRequest
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest


@command(NewDatasetRequest)
def main(request: NewDatasetRequest, folders: Folders) -> PlanAndPreprocessRequest:
    """Entry point of ``gdm_new_dataset``."""
    from gdmunet.progress import say
    from gdmunet.workflows.convert import new_dataset

    say(f"wrote {new_dataset(request, folders)}")
    return PlanAndPreprocessRequest(dataset=(str(request.dataset),), verify_dataset_integrity=True)
