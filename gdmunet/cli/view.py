"""``gdm_view``: look at an evaluation, a training or a comparison in a browser."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.evaluation import ViewRequest


@command(ViewRequest)
def main(request: ViewRequest, folders: Folders) -> None:
    """Entry point of ``gdm_view``."""
    import webbrowser

    from gdmunet.progress import say
    from gdmunet.workflows.report import view

    with view(request, folders) as server:
        say(f"{server.address}\nCtrl-C ends it")
        if request.open:
            webbrowser.open(server.address)
        server.serve_forever()
