"""``gdm_find_best_configuration``: the trained models of a data set by their validation."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import FindBestConfigurationRequest


@command(FindBestConfigurationRequest)
def main(request: FindBestConfigurationRequest, folders: Folders) -> None:
    """Entry point of ``gdm_find_best_configuration``."""
    from gdmunet.progress import say
    from gdmunet.workflows.models import find_best_configuration

    best = find_best_configuration(request, folders)
    say(f"{best.table()}\n\n{best.instructions}")
