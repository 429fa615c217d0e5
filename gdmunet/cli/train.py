"""``gdm_train``: train one fold of one configuration."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.training import TrainRequest


@command(TrainRequest)
def main(request: TrainRequest, folders: Folders) -> None:
    """Entry point of ``gdm_train``."""
    from gdmunet.workflows.train import train

    print(f"model: {train(request, folders)}")
