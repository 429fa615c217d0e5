"""``gdm_export_model``: a trained model as one zip file, its network, or a folder that builds into a container."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import ExportModelRequest, ImportModelRequest


@command(ExportModelRequest)
def main(request: ExportModelRequest, folders: Folders) -> ImportModelRequest | None:
    """Entry point of ``gdm_export_model``."""
    from gdmunet.progress import say
    from gdmunet.workflows.models import export_model

    file = export_model(request, folders)
    say(f"wrote {file}")
    if request.container is not None:
        from gdmunet.inference.container import describe

        say("build, try and pack it:\n  " + "\n  ".join(describe(file)))
        return None
    return ImportModelRequest(file=file) if request.format == "zip" else None
