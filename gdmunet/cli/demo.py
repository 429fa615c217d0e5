"""``gdm_demo``: the whole pipeline in a few minutes on two processor cores."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.quantities import memory_size
from gdmunet.workflows.requests.demonstration import DemoRequest
from gdmunet.workflows.requests.evaluation import ReportRequest


@command(DemoRequest)
def main(request: DemoRequest, _folders: Folders) -> ReportRequest:
    """Entry point of ``gdm_demo``."""
    from gdmunet.cli.demo_run import DEMO_SUMMARY_FILE, run_demo
    from gdmunet.progress import say

    summary = run_demo(request)
    say(f"\n{summary.table()}\n")
    say(f"{summary.seconds:.0f} s, at most {memory_size(summary.peak_memory_mb * 1e6)} of memory")
    say("pictures: " + " ".join(summary.pictures))
    say(f"numbers:  {request.folder / DEMO_SUMMARY_FILE}")
    return ReportRequest(folder=request.folder / "predictions")
