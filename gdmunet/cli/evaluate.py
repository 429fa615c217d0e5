"""``gdm_evaluate``: score predictions against references."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.results import SUMMARY_FILE
from gdmunet.workflows.requests.evaluation import EvaluateRequest, ReportRequest


@command(EvaluateRequest)
def main(request: EvaluateRequest, folders: Folders) -> ReportRequest | EvaluateRequest | None:
    """Entry point of ``gdm_evaluate``."""
    from gdmunet.evaluation.scores.summary_text import format_table
    from gdmunet.evaluation.scores.synthrad import challenge_table
    from gdmunet.parts import OpenParts
    from gdmunet.progress import say
    from gdmunet.workflows.evaluate import evaluate
    from gdmunet.workflows.parts import request_of_part

    summary = evaluate(request, folders)
    if isinstance(summary, OpenParts):
        return request_of_part(request, summary.parts[0])
    say(challenge_table(summary) if request.synthrad else format_table(summary))
    say(f"wrote {request.summary_file}")
    # The page looks for the scores under their usual name.
    return ReportRequest(folder=request.summary_file.parent) if request.summary_file.name == SUMMARY_FILE else None
