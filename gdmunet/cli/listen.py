"""``gdm_listen``: a model as a DICOM node."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.node import ListenRequest


@command(ListenRequest)
def main(request: ListenRequest, folders: Folders) -> None:
    """Entry point of ``gdm_listen``."""
    import threading

    from gdmunet.progress import say
    from gdmunet.workflows.listen import listen

    with listen(request, folders) as node:
        say(f"listening on {request.address}:{node.port} as {request.title}; Ctrl-C ends it")
        threading.Event().wait()
