"""``gdm_compare``: train, predict and score several trainers on the same folds, and put them side by side."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.evaluation import ViewRequest
from gdmunet.workflows.requests.training import CompareRequest


@command(CompareRequest)
def main(request: CompareRequest, folders: Folders) -> ViewRequest:
    """Entry point of ``gdm_compare``."""
    from gdmunet.evaluation.comparison.files import format_markdown
    from gdmunet.progress import say
    from gdmunet.workflows.compare import compare

    written = compare(request, folders)
    say(format_markdown(written.comparison))
    say(f"distances judged by {', '.join(written.judges)}")
    say("wrote " + ", ".join(str(file) for file in written.files))
    return ViewRequest(folder=written.files[0].parent)
