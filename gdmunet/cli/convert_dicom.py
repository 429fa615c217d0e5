"""``gdm_convert_dicom``: DICOM series to volumes and data sets, and CT volumes to DICOM series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.datasets import ConvertDicomRequest
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest


@command(ConvertDicomRequest)
def main(request: ConvertDicomRequest, folders: Folders) -> PlanAndPreprocessRequest | ConvertDicomRequest | None:
    """Entry point of ``gdm_convert_dicom``."""
    from gdmunet.progress import say
    from gdmunet.workflows.convert_dicom import convert_dicom

    done = convert_dicom(request, folders)
    say("\n".join(done.lines))
    if done.missing:
        return replace(request, part_id=done.missing.parts[0])
    if request.dataset is not None:
        return PlanAndPreprocessRequest(dataset=(str(request.dataset),), verify_dataset_integrity=True)
    if request.output is None:
        return replace(request, output=Path("ct.nii.gz"))
    return None
