"""``gdm_convert_synthrad2025``: a raw data set from the archives of SynthRAD2025 or SynthRAD2023."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.datasets import ConvertSynthradRequest


@command(ConvertSynthradRequest)
def main(request: ConvertSynthradRequest, folders: Folders) -> None:
    """Entry point of ``gdm_convert_synthrad2025``."""
    from gdmunet.workflows.convert import convert_synthrad

    result = convert_synthrad(request, folders)
    print(result.report())
    planning = f"gdm_plan_and_preprocess -d {request.dataset} --verify_dataset_integrity"
    prediction = f"gdm_predict -i {result.folder / 'imagesTs'} -o PREDICTIONS"
    print(f"wrote {result.folder}\nnext: {planning if result.training else prediction}")
