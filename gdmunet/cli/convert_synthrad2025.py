"""``gdm_convert_synthrad2025``: a raw data set from the archives of SynthRAD2025 or SynthRAD2023."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.dataset_names import RawFolders
from gdmunet.paths import Folders
from gdmunet.workflows.requests.datasets import ConvertSynthradRequest
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.values import Place


@command(ConvertSynthradRequest)
def main(request: ConvertSynthradRequest, folders: Folders) -> PlanAndPreprocessRequest | PredictRequest:
    """Entry point of ``gdm_convert_synthrad2025``."""
    from gdmunet.progress import say
    from gdmunet.workflows.convert import convert_synthrad

    result = convert_synthrad(request, folders)
    say(result.report())
    say(f"wrote {result.folder}")
    if result.training:
        return PlanAndPreprocessRequest(dataset=(str(request.dataset),), verify_dataset_integrity=True)
    return PredictRequest(input=(Place(RawFolders(result.folder, "Ts").images),), output=Path("PREDICTIONS"))
