"""``gdm_new_dataset``: a raw data set from plain folders of files."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.datasets import NewDatasetRequest


@command(NewDatasetRequest)
def main(request: NewDatasetRequest, folders: Folders) -> None:
    """Entry point of ``gdm_new_dataset``."""
    from gdmunet.workflows.convert import new_dataset

    folder = new_dataset(request, folders)
    print(f"wrote {folder}\nnext: gdm_plan_and_preprocess -d {request.dataset} --verify_dataset_integrity")
