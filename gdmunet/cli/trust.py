"""``gdm_trust``: allow the code in a file to run when plans name it."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import TrustRequest


@command(TrustRequest)
def main(request: TrustRequest, folders: Folders) -> None:
    """Entry point of ``gdm_trust``."""
    from gdmunet.progress import say
    from gdmunet.workflows.trust import trust

    say("\n".join(trust(request, folders)))
