"""``gdm_preprocess``: prepare every training case as the plans say."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.planning import PreprocessRequest


@command(PreprocessRequest)
def main(request: PreprocessRequest, folders: Folders) -> None:
    """Entry point of ``gdm_preprocess``."""
    from gdmunet.workflows import plan_and_preprocess as steps

    steps.preprocess(request, folders)
