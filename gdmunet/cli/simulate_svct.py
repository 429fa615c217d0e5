"""``gdm_simulate_svct``: a data set of sparse-view CT from CT volumes alone."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.quantities import counted
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest
from gdmunet.workflows.requests.simulation import SimulateSvctRequest


@command(SimulateSvctRequest)
def main(request: SimulateSvctRequest, folders: Folders) -> PlanAndPreprocessRequest | SimulateSvctRequest:
    """Entry point of ``gdm_simulate_svct``."""
    from gdmunet.progress import say
    from gdmunet.workflows.convert import simulate_svct
    from gdmunet.workflows.parts import request_of_part

    made = simulate_svct(request, folders)
    there = f", {len(made.kept)} were there already" if made.kept else ""
    say(f"wrote {made.folder}: {counted(made.made, 'case')}{there}")
    if made.missing:
        return request_of_part(request, made.missing.parts[0])
    if made.cut:
        say(
            f"note: the patient is cut by the edge of the slices in {', '.join(made.cut)}. A straight cut makes "
            "streaks along it that no scan has: use whole slices if there are some, or --field_of_view MM, a round cut"
        )
    return PlanAndPreprocessRequest(dataset=(str(request.dataset),), verify_dataset_integrity=True)
